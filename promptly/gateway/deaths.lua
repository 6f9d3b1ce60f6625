-- Counts a server's death against the body that it was processing. Copies of the body that ran on
-- the server together died one death.
--
-- KEYS[1] number of deaths    KEYS[2] servers: name -> time of its last death
-- KEYS[3] fatal: digest of a refused body, or of a suspected one behind a prefix -> end
-- ARGV server, time when the body was sent, now, digest, prefix, seconds to remember it,
--      number of deaths from which on it is refused
-- Times are seconds since the epoch. Returns the number of deaths.
local sent_at, now, seconds = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[6])
local last = redis.call('HGET', KEYS[2], ARGV[1])
if not last or tonumber(last) < sent_at then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
  redis.call('INCR', KEYS[1])
end
local deaths = tonumber(redis.call('GET', KEYS[1]) or '1')
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
if deaths >= tonumber(ARGV[7]) then
  redis.call('ZADD', KEYS[3], now + seconds, ARGV[4])
  redis.call('ZREM', KEYS[3], ARGV[5] .. ARGV[4])
else
  redis.call('ZADD', KEYS[3], now + seconds, ARGV[5] .. ARGV[4])
end
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, seconds) end
return deaths
