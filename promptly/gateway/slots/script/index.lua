-- Lists waiting requests by their keys.
--
-- KEYS[1] prefix of the lists' keys
-- ARGV[1] JSON: [[key id, entry]]
-- ARGV[2] how long an entry is kept unless it comes again (milliseconds)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local kept_ms = tonumber(ARGV[2])
local MOST = 200 -- entries of a key; the oldest go first

for _, given in ipairs(cjson.decode(ARGV[1])) do
  local key, entry = KEYS[1] .. given[1], given[2]
  redis.call('ZADD', key, now, entry)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - kept_ms)
  redis.call('ZREMRANGEBYRANK', key, 0, -MOST - 1)
  redis.call('PEXPIRE', key, kept_ms)
end
return redis.status_reply('OK')
