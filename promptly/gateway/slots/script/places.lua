-- Where requests wait, and how fast slots become free. It changes nothing.
--
-- KEYS[1] prefix of the queue's keys
-- ARGV[1] JSON: requests [[id, lane, account]], servers [name]
--
-- Returns what estimates need: the rank of each request in its account's line (0: next; -1: it does
-- not wait; -2: it waits for the slot of its cache alone, in no line), the numbers {waiting, cost, served:paying, served:trial}, the accounts of each lane
-- [class, [member, served, ...]], those with several requests [class, [account, number, ...]], and
-- of each server {slots, service_ms}.
local MOST_ACCOUNTS = 300 -- of a lane, so that it takes Redis no longer than an exchange
local CLASSES = {'paying', 'trial', 'batch'}
local input = cjson.decode(ARGV[1])
local queue = KEYS[1]
local packed = redis.call('GET', queue .. ':numbers')
local numbers = packed and cmsgpack.unpack(packed) or {}

local ranks = {}
for place, asked in ipairs(input.requests) do
  local id, lane, account = unpack(asked)
  local rank = redis.call('ZRANK', queue .. ':line:' .. lane .. ':' .. account, id)
  if not rank then rank = redis.call('HEXISTS', queue .. ':requests', id) == 1 and -2 or -1 end
  ranks[place] = rank
end

local lanes, several = {}, {}
local function add_lane(class, name)
  local accounts = redis.call(
    'ZRANGE', queue .. ':lane:' .. name, 0, MOST_ACCOUNTS - 1, 'WITHSCORES')
  if #accounts > 0 then lanes[#lanes + 1] = {class, accounts} end
end
for _, class in ipairs(CLASSES) do
  add_lane(class, class)
  several[#several + 1] = {class, redis.call('ZREVRANGEBYSCORE', queue .. ':totals:' .. class,
    '+inf', 2, 'WITHSCORES', 'LIMIT', 0, MOST_ACCOUNTS)}
end
if (numbers.lanes or 0) > 0 then
  for _, name in ipairs(redis.call('SMEMBERS', queue .. ':lanes')) do
    add_lane(string.match(name, '^%a+'), name)
  end
end

local servers = {}
for place, name in ipairs(input.servers) do
  local record = redis.call('GET', 'promptly:slots2:record:' .. name)
  local values = record and cmsgpack.unpack(record) or {}
  servers[place] = {values[FIELD.slots] or 0, values[FIELD.service_ms] or 0}
end

return {ranks, {redis.call('HLEN', queue .. ':requests'), numbers.cost or 0,
  numbers['served:paying'] or 0, numbers['served:trial'] or 0}, lanes, several, servers}
