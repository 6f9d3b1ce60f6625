-- Waiting requests: by lane and account in order of arrival, by process, and in all by account.
local answer = {granted = {}, full = {}}
local quitters = {}

local function line_of(lane, account) return queue .. ':line:' .. lane .. ':' .. account end
local function totals_of(class) return queue .. ':totals:' .. class end

-- Tell a process about its request: in this answer, or in that of its next exchange.
local function tell(process, kind, entry)
  if process == input.process then
    local list = answer[kind]
    list[#list + 1] = entry
  else
    local key = queue .. ':news:' .. process
    redis.call('RPUSH', key, cmsgpack.pack({kind, entry}))
    redis.call('PEXPIRE', key, input.ttl)
  end
end

local function read_news()
  local key = queue .. ':news:' .. input.process
  local news = redis.call('LRANGE', key, 0, -1)
  if #news == 0 then return end
  redis.call('DEL', key)
  for _, packed in ipairs(news) do
    local kind, entry = unpack(cmsgpack.unpack(packed))
    tell(input.process, kind, entry)
  end
end

-- Among accounts with equally many waiting requests, the one that came last has the most.
local function count_arrival(account, arrival_us)
  local key = totals_of(account.class)
  local score = math.floor(tonumber(redis.call('ZSCORE', key, account.id) or 0))
  redis.call('ZADD', key, score + 1 + arrival_us / 1e16, account.id)
  redis.call('PEXPIRE', key, KEEP_MS)
end

local function count_leaving(class, account)
  local key = totals_of(class)
  if tonumber(redis.call('ZINCRBY', key, -1, account)) < 1 then
    redis.call('ZREM', key, account)
  end
end


local function join_line(id, request, account)
  local lane, line = lane_named(request.lane), line_of(request.lane, request.account)
  redis.call('ZADD', line, request.arrival_us, id)
  redis.call('ZADD', lane.key, account.served, member_of(account))
  redis.call('PEXPIRE', line, KEEP_MS)
  redis.call('PEXPIRE', lane.key, KEEP_MS)
  if lane.avoided then
    redis.call('SADD', queue .. ':lanes', lane.name)
    redis.call('PEXPIRE', queue .. ':lanes', KEEP_MS)
    set_number('lanes', redis.call('SCARD', queue .. ':lanes'))
  end
end

-- Adds a request; until the deadline, if there is one, it waits for the slot that it wants alone.
local function add(id, request, account, deadline)
  local mine = queue .. ':of:' .. request.process
  waiting = waiting + 1
  redis.call('HSET', queue .. ':requests', id, cmsgpack.pack(request))
  redis.call('SADD', mine, id)
  redis.call('PEXPIRE', queue .. ':requests', KEEP_MS)
  redis.call('PEXPIRE', mine, KEEP_MS)
  if deadline then
    redis.call('ZADD', queue .. ':deferred', deadline, id)
    redis.call('PEXPIRE', queue .. ':deferred', KEEP_MS)
  else
    join_line(id, request, account)
  end
  count_arrival(account, request.arrival_us)
end

local function stop_deferring()
  local key = queue .. ':deferred'
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, 32)) do
    redis.call('ZREM', key, id)
    local packed = redis.call('HGET', queue .. ':requests', id)
    if packed then
      local request = cmsgpack.unpack(packed)
      join_line(id, request, account_of(request.class, request.account))
    end
  end
end

-- Takes a waiting request out of the queue and returns it, nil if there is none.
local function remove(id)
  local packed = redis.call('HGET', queue .. ':requests', id)
  if not packed then return nil end
  local request = cmsgpack.unpack(packed)
  waiting = waiting - 1
  redis.call('HDEL', queue .. ':requests', id)
  redis.call('SREM', queue .. ':of:' .. request.process, id)
  if request.wants then
    redis.call('ZREM', request.wants, id)
    redis.call('ZREM', queue .. ':deferred', id)
  end
  local line, lane = line_of(request.lane, request.account), lanes[request.lane]
  redis.call('ZREM', line, id)
  if redis.call('EXISTS', line) == 0 then
    redis.call('ZREM', lane.key, member_of(account_of(request.class, request.account)))
    if lane.avoided and redis.call('EXISTS', lane.key) == 0 then
      redis.call('SREM', queue .. ':lanes', lane.name)
      set_number('lanes', redis.call('SCARD', queue .. ':lanes'))
    end
  end
  count_leaving(request.class, request.account)
  return request
end

-- Forgets requests of a process that is silent: dead, or it will bring them again.
local function forget_silent()
  local key = queue .. ':processes'
  local silent = redis.call('ZRANGEBYSCORE', key, '-inf', now - input.silent, 'LIMIT', 0, 1)[1]
  if not silent or silent == input.process then return end
  local ids = redis.call('SRANDMEMBER', queue .. ':of:' .. silent, 100)
  for _, id in ipairs(ids) do
    if not remove(id) then redis.call('SREM', queue .. ':of:' .. silent, id) end
  end
  if #ids < 100 then redis.call('ZREM', key, silent) end
end

-- Sends away the newest request of the account that has most waiting: batch first, paying last.
local function displace()
  for place = #CLASSES, 1, -1 do
    local class = CLASSES[place]
    local account = redis.call('ZREVRANGE', totals_of(class), 0, 0)[1]
    if account then
      local newest, newest_us
      for _, lane in ipairs(lanes) do
        if lane.class == class then
          local last = redis.call(
            'ZREVRANGE', line_of(lane.name, account), 0, 0, 'WITHSCORES')
          if last[1] and (not newest or tonumber(last[2]) > newest_us) then
            newest, newest_us = last[1], tonumber(last[2])
          end
        end
      end
      if not newest then return false end
      tell(remove(newest).process, 'full', newest)
      return true
    end
  end
  return false
end
