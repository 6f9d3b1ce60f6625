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
  local server, record = {}, redis.call('GET', STATE .. 'record:' .. name)
  local values = record and cmsgpack.unpack(record) or {}
  for number, field in ipairs(FIELDS) do server[field] = values[number] or 0 end
  if server.named == 1 then
    servers[place] = {redis.call('HLEN', STATE .. 'leases:' .. name),
      redis.call('ZCARD', STATE .. 'free:' .. name),
      redis.call('SCARD', STATE .. 'unsettled:' .. name), 0}
  else
    -- Its slots are not known one by one.
    local running = redis.call('ZCOUNT', 'promptly:slots:' .. name, '(' .. now, '+inf')
    servers[place] = {0, math.max(server.slots - running, 0), 0, running}
  end
end

local queues = {}
for place, queue in ipairs(input.queues) do
  local counts = {}
  for number, class in ipairs(CLASSES) do
    local count = 0
    local accounts = redis.call('ZRANGE', queue .. ':totals:' .. class, 0, -1, 'WITHSCORES')
    for at = 2, #accounts, 2 do count = count + math.floor(tonumber(accounts[at])) end
    counts[number] = count
  end
  queues[place] = counts
end
return {servers, queues}
