-- Whether a slot waits for the next turn of the conversation that has just ended there.
--
-- An agent comes back within a moment. If others wait, they would have its slot by then, and it
-- would have to read its whole prompt anew, and then they theirs. So the slot is kept for as long
-- as is cheap next to that, if the account would go first anyway, and as long as it has come back.
local LEAST_KEPT_MS = 20
local KEPT_SHARE = 4 -- of the time that the cache saves

local function keep_slots()
  for _, entry in ipairs(ended) do
    local server, slot, lease = unpack(entry)
    local contents = contents_of(server, slot)
    if server.listed and not is_counted(server) and server.places > 0
      and contents and #contents.chain > 0 and redis.call('ZSCORE', server.free, slot) then
      local account = account_of(lease[2], lease[3])
      local saved = contents.tokens * token_ms(server)
      local ms = math.min(saved / KEPT_SHARE, service_of(server) / 2, MOST_KEPT_MS)
      if ms >= LEAST_KEPT_MS and account.returns >= WELL
        and goes_first({class = account.class, account = account.id}, server) then
        redis.call('ZREM', server.free, slot)
        redis.call('ZADD', server.kept, math.floor(now + ms), slot)
        redis.call('PEXPIRE', server.kept, KEEP_MS)
        note_kept(server)
        look_up_free(server)
        server.places = server.free_slot and 1 or 0
      end
    end
  end
end
