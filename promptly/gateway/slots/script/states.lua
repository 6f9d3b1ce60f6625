-- The slots of servers by what they do, and waiting requests by class. It changes nothing.
--
-- ARGV[1] JSON: servers [name], queues [prefix of the queue's keys]
--
-- Returns of each server {leased, free, unsettled, counted}, and of each queue the numbers of its
-- waiting requests {paying, trial, batch}.
local STATE = 'promptly:slots2:'
local CLASSES = {'paying', 'trial', 'batch'}
local input = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local servers = {}
for place, name in ipairs(input.servers) do
  local record = redis.call('GET', STATE .. 'record:' .. name)
  local values = record and cmsgpack.unpack(record) or {}
  if values[FIELD.named] == 1 then
    servers[place] = {redis.call('HLEN', STATE .. 'leases:' .. name),
      redis.call('ZCARD', STATE .. 'free:' .. name) + redis.call('ZCARD', STATE .. 'kept:' .. name),
      redis.call('SCARD', STATE .. 'unsettled:' .. name), 0}
  else
    -- Its slots are not known one by one.
    local running = redis.call('ZCOUNT', 'promptly:slots:' .. name, '(' .. now, '+inf')
    servers[place] = {0, math.max((values[FIELD.slots] or 0) - running, 0), 0, running}
  end
end

local queues = {}
for place, queue in ipairs(input.queues) do
  local counts = {}
  for number, class in ipairs(CLASSES) do
    -- The accounts that have one waiting, then those that have two, and so on.
    local count, several = 0, 0
    repeat
      several = several + 1
      local accounts = redis.call('ZCOUNT', queue .. ':totals:' .. class, several, '+inf')
      count = count + accounts
    until accounts == 0
    counts[number] = count
  end
  queues[place] = counts
end
return {servers, queues}
