-- Looks at /slots. `idle` and `busy` are the ids of slots. A look says nothing about requests that
-- were cut after it was `asked` for: they may have reached their slots only then.
local function take_look(name, idle, busy, asked)
  local server = server_of(name)
  if is_counted(server) or server.look_at == 0 then return end
  if server.named == 1 then
    for _, slot in ipairs(idle) do
      local cut = tonumber(redis.call('HGET', server.cuts, slot) or 0)
      if cut <= asked and redis.call('SREM', server.unsettled, slot) == 1 then
        offer(server, slot, contents_of(server, slot))
      end
    end
  elseif #idle + #busy == server.slots and server.cut_at <= asked then
    local leased, count, latest = named_slots(server)
    local running, unknown = redis.call('ZCARD', server.key), {}
    for _, slot in ipairs(busy) do
      if not leased[slot] then unknown[#unknown + 1] = slot end
    end
    -- Each request that runs in an unknown slot has to be in one of the busy ones. Those that are
    -- in none have ended, as when their process died, unless they are yet to come, wait at the
    -- server because all of its slots are busy, or are of the release before.
    local arrived = #idle > 0 and now - latest > math.min(ARRIVAL_MS, input.ttl / 5)
      and redis.call('HLEN', server.leases) == running
    if arrived or #unknown >= running - count then
      redis.call('DEL', server.free, server.kept, server.unsettled, server.contents)
      set(server, 'named', 1)
      for _, slot in ipairs(idle) do
        if not leased[slot] then offer(server, slot, nil) end
      end
      for _, slot in ipairs(unknown) do doubt(server, slot) end
    end
  end
  if server.named == 1 and redis.call('SCARD', server.unsettled) == 0 then
    set(server, 'look_at', 0)
  else
    set(server, 'look_at', now + server.pause_ms)
    set(server, 'pause_ms', math.min(math.max(server.pause_ms, 25) * 2, LAST_PAUSE_MS))
  end
end

-- Returns [server, now] for those whose /slots this process is to look at, and when the next look
-- is due.
local function looks_due()
  local found, wait_ms = {}, nil
  if input.counted then return found, nil end
  for _, server in ipairs(listed) do
    if server.look_at > 0 and server.shows_slots and now >= server.counted_until then
      if server.look_at <= now then
        found[#found + 1] = {server.name, now}
        -- If it does not answer, it is dead, or the server is.
        set(server, 'look_at', now + input.ttl * 0.35)
      elseif not wait_ms or server.look_at - now < wait_ms then
        wait_ms = server.look_at - now
      end
    end
  end
  return found, wait_ms
end
