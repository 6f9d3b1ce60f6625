-- One exchange of a process with the shared state of all slots: the process renews and releases
-- its slots, names its waiting requests, and learns which of them may start. Entries that are not
-- renewed expire, so a dead process frees its slots by itself.
--
-- KEYS[1] waiting: member -> arrival time    KEYS[2] seen: member -> expiry    (milliseconds)
-- KEYS[3] fatal: digest of a refused body -> end of the refusal (seconds)
-- ARGV[1] JSON: ttl (milliseconds), limit (waiting requests), upstreams [{key, slots}],
--               renew {key: [member]}, release {key: [member]}, quit {queue: [member]},
--               waiting [member] (of this process)
-- A member is "account|request" or, of an account that pays nothing, "account|request|trial".
-- Returns JSON {granted: {member: place in upstreams, from 1}, full: [member], fatal: [digest]},
-- each only if not empty.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local input = cjson.decode(ARGV[1])
local waiting, seen = KEYS[1], KEYS[2]
local expiry = now + input.ttl

local function account(member) return string.match(member, '^(.-)|') end
local function pays(member) return string.sub(member, -6) ~= '|trial' end

for key, members in pairs(input.release) do
  for _, member in ipairs(members) do redis.call('ZREM', key, member) end
end
for key, members in pairs(input.renew) do
  for _, member in ipairs(members) do redis.call('ZADD', key, expiry, member) end
  redis.call('PEXPIRE', key, input.ttl * 2)
end
for queue, members in pairs(input.quit) do
  for _, member in ipairs(members) do
    redis.call('ZREM', queue, member)
    redis.call('ZREM', queue .. ':seen', member)
  end
end
if #input.waiting == 0 then return '{}' end

local free, total = {}, 0
for number, upstream in ipairs(input.upstreams) do
  redis.call('ZREMRANGEBYSCORE', upstream.key, '-inf', now)
  free[number] = upstream.slots - redis.call('ZCARD', upstream.key)
  total = total + math.max(free[number], 0)
end

local granted, full, any = {}, {}, false
local function grant(member)
  local best = 1
  for number = 2, #free do if free[number] > free[best] then best = number end end
  free[best] = free[best] - 1
  local key = input.upstreams[best].key
  redis.call('ZADD', key, expiry, member)
  redis.call('PEXPIRE', key, input.ttl * 2)
  redis.call('ZREM', waiting, member)
  redis.call('ZREM', seen, member)
  granted[member] = best
  any = true
end

local queued = redis.call('ZCARD', waiting)
if queued == 0 and total >= #input.waiting then
  for _, member in ipairs(input.waiting) do grant(member) end
else
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', now)) do
    redis.call('ZREM', waiting, member)
    redis.call('ZREM', seen, member)
  end
  queued = redis.call('ZCARD', waiting)
  -- For a paying request the queue is full only of paying ones, which are counted when needed.
  local paying
  local function is_full_for(member)
    if queued < input.limit + total then return false end
    if not pays(member) then return true end
    if not paying then
      paying = 0
      for _, other in ipairs(redis.call('ZRANGE', waiting, 0, -1)) do
        if pays(other) then paying = paying + 1 end
      end
    end
    return paying >= input.limit + total
  end
  local mine = {}
  for _, member in ipairs(input.waiting) do
    mine[member] = true
    if redis.call('ZSCORE', waiting, member) then
      redis.call('ZADD', seen, expiry, member)
    elseif is_full_for(member) then
      full[#full + 1] = member
      mine[member] = nil
    else
      redis.call('ZADD', waiting, now, member)
      redis.call('ZADD', seen, expiry, member)
      queued = queued + 1
      if paying and pays(member) then paying = paying + 1 end
    end
  end
  redis.call('PEXPIRE', waiting, input.ttl * 2)
  redis.call('PEXPIRE', seen, input.ttl * 2)
  if total > 0 then
    local running = {}
    for _, upstream in ipairs(input.upstreams) do
      for _, member in ipairs(redis.call('ZRANGE', upstream.key, 0, -1)) do
        local owner = account(member)
        running[owner] = (running[owner] or 0) + 1
      end
    end
    -- Paying goes first, then the account that runs fewest requests, then the earliest arrival.
    local candidates = redis.call('ZRANGE', waiting, 0, -1)
    local function precedes(member, other)
      if pays(member) ~= pays(other) then return pays(member) end
      return (running[account(member)] or 0) < (running[account(other)] or 0)
    end
    while total > 0 do
      local best
      for place, member in ipairs(candidates) do
        if member and (not best or precedes(member, candidates[best])) then best = place end
      end
      if not best then break end
      local member = candidates[best]
      local owner = account(member)
      running[owner] = (running[owner] or 0) + 1
      candidates[best] = false
      total = total - 1
      -- Leave a free slot that is due to another process's request for that process to take.
      if mine[member] then grant(member) end
    end
  end
end
-- Hardly ever is there a refused body: this is half the cost of asking which.
local fatal = {}
if redis.call('EXISTS', KEYS[3]) == 1 then
  fatal = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. clock[1], '+inf')
end
if not any and #full == 0 and #fatal == 0 then return '{}' end
local answer = {}
if #fatal > 0 then answer.fatal = fatal end
if any then answer.granted = granted end
if #full > 0 then answer.full = full end
return cjson.encode(answer)
