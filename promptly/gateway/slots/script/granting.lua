-- Which request gets a slot, and which slot.
local BATCH_MS = 30000     -- while others wait, batch requests get one slot in so much time
local PATIENCE_MS = 20000  -- so long others may go before because of their caches
local RUNNING_MS = 120000  -- a server that is all busy counts as one whose slots were used so much later
local MOST_GRANTS = 64     -- in one exchange

local function takes(server, lane)
  return server.places > 0 and not (lane.avoided and lane.avoided[server.name])
end

local function is_open(lane)
  for _, server in ipairs(listed) do
    if takes(server, lane) then return true end
  end
  return false
end

-- Returns the lane and the account whose turn it is, nil if nobody waits for a free slot.
local function next_account()
  local heads = {}
  for _, lane in ipairs(lanes) do
    if is_open(lane) then
      local first = redis.call('ZRANGE', lane.key, 0, 0, 'WITHSCORES')
      local served, best = tonumber(first[2]), heads[lane.class]
      if served and (not best or served < best.served
        or (served == best.served and first[1] < best.member)) then
        heads[lane.class] = {lane = lane, member = first[1], served = served}
      end
    end
  end
  local paying, trial, batch = heads.paying, heads.trial, heads.batch
  local head = paying or trial
  if paying and trial and number('served:trial') < number('served:paying') then head = trial end
  if batch and (not head or now - number('batch_at') > BATCH_MS) then head = batch end
  if not head then return nil end
  return head.lane, account_of(head.lane.class, string.match(head.member, '|(.*)$'))
end

-- Returns the free slot whose cache is worth least, on a server that has little to do.
local function cheapest_slot(lane)
  local best, best_score, best_slot
  for _, server in ipairs(listed) do
    if takes(server, lane) then
      local slot, score = -1, now
      if not is_counted(server) then
        slot, score = server.free_slot, server.free_score
      end
      score = score + (server.running + 1) / server.slots * RUNNING_MS
      if not best or score < best_score then best, best_score, best_slot = server, score, slot end
    end
  end
  return best, best_slot
end

local function find_slot(request, lane)
  local server, slot, tokens
  each_match(request, lane, function(matching, number_of, saved)
    if not is_free(matching, number_of) then return false end
    server, slot, tokens = matching, number_of, saved
    return true
  end)
  if server then return server, slot, tokens end
  server, slot = cheapest_slot(lane)
  return server, slot, 0
end

-- `account` is charged what upstream has to read of the prompt, until it is known.
local function grant(id, request, account, server, slot, cached)
  local cost, old = math.max(request.tokens - cached, 1), member_of(account)
  set_number('level', math.max(number('level'), number('served:' .. account.class)))
  if account.class == 'batch' then set_number('batch_at', now) end
  account.turn_us = now_us
  for _, lane in ipairs(waiting > 0 and lanes or {}) do
    if lane.class == account.class and redis.call('ZREM', lane.key, old) == 1 then
      redis.call('ZADD', lane.key, account.served, member_of(account))
    end
  end
  charge(account, cost)
  -- The largest request of late: so much may a cache put one account ahead of another.
  set_number('largest', math.max(request.tokens, math.floor(number('largest') * 255 / 256)))
  local reuses = false
  if slot >= 0 then
    if redis.call('ZREM', server.free, slot) == 0 and redis.call('ZREM', server.kept, slot) == 1 then
      note_kept(server)
    end
    local contents = contents_of(server, slot)
    if cached > 0 and contents and request.arrival_us / 1000 - contents.used < MOST_KEPT_MS then
      note_return(account, 1)
    end
    reuses = contents ~= nil
      and (contents.owner == account.id or (input.shared and 'shared'))
    if cached == 0 and waiting > 0 then disappoint(server, slot) end
    local goes_on = cached > 0 and contents and contents.owner == account.id
    set_contents(server, slot, contents, {
      owner = account.id, class = account.class, used = now, tokens = request.tokens,
      chain = request.chain, since = goes_on and contents.since or now})
  elseif input.counted
    and (server.named == 1 or server.counted_until < now + input.ttl / 2) then
    count_only(server)
  end
  server.running = server.running + 1
  if is_counted(server) then
    server.places = server.places - 1
  else
    look_up_free(server)
    server.places = server.free_slot and 1 or 0
  end
  local hits = reuses and cached > 0
  start_lease(
    server, id, {request.process, account.class, account.id, slot, now, cost, reuses, hits})
  tell(request.process, 'granted', {id, server.name, slot, reuses, hits})
end

-- Returns whether a request with a cache in a free slot goes before the account whose turn it is.
local function goes_first(request, server)
  local lane, head = next_account()
  if not lane then return true end
  if lane.class ~= request.class then return false end
  local account = account_of(request.class, request.account)
  if account.served - head.served > number('largest') then return false end
  local first = redis.call('ZRANGE', line_of(lane.name, head.id), 0, 0, 'WITHSCORES')
  local waited_ms = first[2] and (now_us - tonumber(first[2])) / 1000 or 0
  local is_newcomer = head.turn_us < now_us - LONG_AGO_US / 2
  return waited_ms < (is_newcomer and server.service_ms / 2 or PATIENCE_MS)
end

-- Gives slots that became free to those who have their prompts cached there, as far as it is fair.
local function grant_wanted()
  for _, entry in ipairs(offered) do
    local server, slot = unpack(entry)
    local kept = is_kept(server, slot)
    if server.listed and (kept or server.places > 0) and is_free(server, slot) then
      for _, id in ipairs(redis.call('ZREVRANGE', wanters_of(server, slot), 0, 3)) do
        local packed = redis.call('HGET', queue .. ':requests', id)
        local request = packed and cmsgpack.unpack(packed)
        if not request then
          redis.call('ZREM', wanters_of(server, slot), id)
        elseif kept or goes_first(request, server) then
          local saved = tonumber(redis.call('ZSCORE', wanters_of(server, slot), id))
          remove(id)
          grant(id, request, account_of(request.class, request.account), server, slot, saved)
          break
        end
      end
    end
  end
end

local function grant_turns()
  for _ = 1, MOST_GRANTS do
    local lane, account = next_account()
    if not lane then return end
    local id = redis.call('ZRANGE', line_of(lane.name, account.id), 0, 0)[1]
    local request = id and remove(id)
    if request then
      set_number('level:' .. lane.class, math.max(number('level:' .. lane.class), account.served))
      grant(id, request, account, find_slot(request, lane))
    else
      redis.call('ZREM', lane.key, member_of(account))
    end
  end
  answer.more = true
end
