-- The state of servers and queues, for an operator; changes nothing.
--
-- KEYS[1] prefix of the keys of servers' leases
-- KEYS[2] prefix of the keys of servers' state
-- ARGV[1] JSON: {servers, queues, most slots, most accounts}
-- Its parts read keys that these prefixes begin: one Redis has them all.
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)
local input = cjson.decode(ARGV[1])
local CLASSES = {'paying', 'trial', 'batch'}
local MOST_LANES, MOST_DEFERRED = 8, 64

local function server_report(name)
  local state = KEYS[2]
  local values = {}
  local packed = redis.call('GET', state .. 'record:' .. name)
  local record = packed and cmsgpack.unpack(packed) or {}
  for place, field in ipairs(FIELDS) do values[field] = record[place] or 0 end
  local report = {name = name, running = redis.call('ZCOUNT', KEYS[1] .. name, '(' .. now, '+inf'),
    named = values.named == 1 and now >= values.counted_until, token_us = values.token_us,
    slots = {}, unnamed = {}}
  -- Servers have as many leases as slots; only a fault makes more.
  local leases = redis.call('HSCAN', state .. 'leases:' .. name, 0, 'COUNT', input.most_slots)[2]
  for place = 1, math.min(#leases, input.most_slots * 2), 2 do
    local id, lease = leases[place], cmsgpack.unpack(leases[place + 1])
    local slot = lease[4]
    local busy = {class = lease[2], account = lease[3], busy_ms = now - lease[5]}
    local until_ms = redis.call(
      'ZSCORE', KEYS[1] .. name, lease[3] .. '|' .. id .. '|#' .. slot)
    -- An expired lease is ended by the next exchange; its slot is then to be looked at.
    if not until_ms or tonumber(until_ms) <= now then busy = {unsettled = true} end
    if slot >= 0 then
      report.slots[tostring(slot)] = busy
    elseif not busy.unsettled then
      report.unnamed[#report.unnamed + 1] = busy
    end
  end
  if not report.named then return report end
  for _, part in ipairs({'free:', 'kept:'}) do
    for _, slot in ipairs(redis.call('ZRANGE', state .. part .. name, 0, input.most_slots)) do
      report.slots[slot] = report.slots[slot] or {idle = true}
    end
  end
  for _, slot in ipairs(redis.call('SRANDMEMBER', state .. 'unsettled:' .. name, input.most_slots)) do
    report.slots[slot] = report.slots[slot] or {unsettled = true}
  end
  for slot, shown in pairs(report.slots) do
    local contents = redis.call('HGET', state .. 'contents:' .. name, slot)
    if contents then
      contents = cmsgpack.unpack(contents)
      shown.owner, shown.tokens = contents.owner, contents.tokens
      if contents.since then shown.age_ms = now - contents.since end
    end
  end
  return report
end

-- Returns since when the account's oldest request waits, 0 if that is not known.
local function oldest_us(queue, lanes, account)
  local oldest = 0
  for _, lane in ipairs(lanes) do
    local first = redis.call('ZRANGE', queue .. ':line:' .. lane .. ':' .. account, 0, 0, 'WITHSCORES')
    local arrival = tonumber(first[2])
    if arrival and (oldest == 0 or arrival < oldest) then oldest = arrival end
  end
  return oldest
end

-- Returns since when requests wait for their caches, by class and account.
local function deferred_us(queue)
  local oldest = {}
  for _, id in ipairs(redis.call('ZRANGE', queue .. ':deferred', 0, MOST_DEFERRED - 1)) do
    local packed = redis.call('HGET', queue .. ':requests', id)
    if packed then
      local request = cmsgpack.unpack(packed)
      local name = request.class .. ':' .. request.account
      oldest[name] = math.min(oldest[name] or request.arrival_us, request.arrival_us)
    end
  end
  return oldest
end

local function queue_report(queue)
  local report = {length = redis.call('HLEN', queue .. ':requests'), accounts = {}}
  if report.length == 0 then return report end
  local others, deferred = redis.call('SRANDMEMBER', queue .. ':lanes', MOST_LANES), deferred_us(queue)
  for _, class in ipairs(CLASSES) do
    local lanes = {class}
    for _, lane in ipairs(others) do
      if string.match(lane, '^(%a+)!') == class then lanes[#lanes + 1] = lane end
    end
    local totals = redis.call(
      'ZREVRANGE', queue .. ':totals:' .. class, 0, input.most_accounts - 1, 'WITHSCORES')
    for place = 1, #totals, 2 do
      local account = totals[place]
      local oldest = oldest_us(queue, lanes, account)
      local other = deferred[class .. ':' .. account]
      if other and (oldest == 0 or other < oldest) then oldest = other end
      report.accounts[#report.accounts + 1] = {class = class, account = account,
        waiting = math.floor(tonumber(totals[place + 1])),
        longest_ms = oldest > 0 and math.floor((now_us - oldest) / 1000) or 0}
    end
  end
  return report
end

local servers, queues = {}, {}
for place, name in ipairs(input.servers) do servers[place] = server_report(name) end
for place, queue in ipairs(input.queues) do queues[place] = queue_report(queue) end
return cjson.encode({servers = servers, queues = queues})
