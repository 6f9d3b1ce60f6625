-- Servers, their slots and leases. All queues share them.
--
-- A server is either named (its slots are leased one by one, each known to be idle) or counted (it
-- gets as many requests as it has slots, and chooses the slot itself). Where anything of ours may
-- run in a slot that we do not know, it takes no request until a look at its /slots has accounted
-- for all of them. After a loss of our state it is counted for one ttl before, in which every
-- process reports its leases, and once more if it is not accounted for within SETTLE_MS.
local STATE = 'promptly:slots2:'
local EVICTION_FACTOR = 20   -- a cache is worth so many times the time that computing it took
local TOKEN_US = 500         -- of a prompt's token, until measured
local SETTLE_MS = 3000       -- longest time without grants, in which a server's slots become known
local ARRIVAL_MS = 2000      -- a request that was granted so long ago has reached its server, or never will
local TIDY_MS = 100           -- how often expired leases and those of others are looked for
local FIRST_PAUSE_MS, LAST_PAUSE_MS = 50, 500

local epoch = redis.call('GET', STATE .. 'epoch')
if not epoch or input.fresh then
  epoch = string.format('%.0f', now_us)
  redis.call('SET', STATE .. 'epoch', epoch, 'PX', KEEP_MS)
end

local PARTS = {'record', 'leases', 'free', 'kept', 'unsettled', 'cuts', 'contents'}
local servers = {}

local function set(server, name, value)
  if server[name] ~= value then server[name], server.changed = value, true end
end

local function contents_of(server, slot)
  local packed = redis.call('HGET', server.contents, slot)
  return packed and cmsgpack.unpack(packed) or nil
end

-- The index of prefixes: digest -> "slot server".
local function forget_prefixes(server, slot, contents)
  if #contents.chain == 0 then return end
  local place, digests, old = slot .. ' ' .. server.name, {}, {}
  for number, link in ipairs(contents.chain) do digests[number] = link[1] end
  for number, found in ipairs(redis.call('HMGET', queue .. ':prefixes', unpack(digests))) do
    if found == place then old[#old + 1] = digests[number] end
  end
  if #old > 0 then redis.call('HDEL', queue .. ':prefixes', unpack(old)) end
end

-- A conversation that goes on keeps its prefixes.
local function continues(old, contents)
  for number, link in ipairs(old.chain) do
    if not contents.chain[number] or contents.chain[number][1] ~= link[1] then return false end
  end
  return true
end

local function set_contents(server, slot, old, contents)
  if old and not (contents and continues(old, contents)) then
    forget_prefixes(server, slot, old)
  end
  if not contents then
    redis.call('HDEL', server.contents, slot)
    return
  end
  redis.call('HSET', server.contents, slot, cmsgpack.pack(contents))
  local values = {}
  for _, link in ipairs(contents.chain) do
    values[#values + 1] = link[1]
    values[#values + 1] = slot .. ' ' .. server.name
  end
  if #values > 0 then
    redis.call('HSET', queue .. ':prefixes', unpack(values))
    redis.call('PEXPIRE', queue .. ':prefixes', KEEP_MS)
  end
end

-- Forget which slots of a server are idle, and only count its requests until then.
local function forget_slots(server, counted_until)
  set(server, 'counted_until', counted_until)
  set(server, 'epoch', epoch)
  set(server, 'look_at', 0)
  if server.named ~= 0 then
    set(server, 'named', 0)
    local flat = redis.call('HGETALL', server.contents)
    for place = 1, #flat, 2 do
      forget_prefixes(server, flat[place], cmsgpack.unpack(flat[place + 1]))
    end
    redis.call('DEL', server.contents, server.free, server.kept, server.unsettled)
  end
end

-- There may be leases that we do not know.
local function count_only(server) forget_slots(server, now + input.ttl) end

-- A lease that we know runs in a slot that we do not know.
local function locate(server)
  if server.named == 1 then forget_slots(server, now) end
end

local function server_of(name)
  local server = servers[name]
  if server then return server end
  server = {name = name, key = 'promptly:slots:' .. name}
  for _, part in ipairs(PARTS) do server[part] = STATE .. part .. ':' .. name end
  local packed = redis.call('GET', server.record)
  local values = packed and cmsgpack.unpack(packed) or {}
  for place, field in ipairs(FIELDS) do server[field] = values[place] or 0 end
  servers[name] = server
  if server.epoch ~= epoch then
    server.named = 1 -- whatever there was
    count_only(server)
  end
  return server
end

-- Leases: {process, class, account, slot, granted at, tokens charged}. Slot -1: any.
local function lease_member(id, lease) return lease[3] .. '|' .. id .. '|#' .. lease[4] end

local function start_lease(server, id, lease)
  redis.call('HSET', server.leases, id, cmsgpack.pack(lease))
  redis.call('PEXPIRE', server.leases, KEEP_MS)
  redis.call('ZADD', server.key, now + input.ttl, lease_member(id, lease))
  redis.call('PEXPIRE', server.key, input.ttl * 2)
end

local function doubt(server, slot)
  redis.call('SADD', server.unsettled, slot)
  redis.call('HSET', server.cuts, slot, now)
  redis.call('PEXPIRE', server.unsettled, KEEP_MS)
  redis.call('PEXPIRE', server.cuts, KEEP_MS)
  set(server, 'look_at', now)
  set(server, 'pause_ms', FIRST_PAUSE_MS)
end

local offered = {} -- slots that became free in this exchange
local ended = {}   -- those of requests that have ended, with their leases
local function offer(server, slot, contents)
  local score = 0
  if contents then
    local token_us = server.token_us > 0 and server.token_us or TOKEN_US
    score = contents.used + contents.tokens * token_us / 1000 * EVICTION_FACTOR
  end
  offered[#offered + 1] = {server, slot}
  redis.call('ZADD', server.free, score, slot)
  redis.call('PEXPIRE', server.free, KEEP_MS)
end

-- End a lease. The slot is free at once if the request is `settled`: known to have left the
-- server, or never to have been there. `tokens` is what its slot holds now, nil if unknown.
local function end_lease(server, id, lease, settled, tokens)
  redis.call('HDEL', server.leases, id)
  redis.call('ZREM', server.key, lease_member(id, lease))
  local slot = lease[4]
  if slot < 0 or server.named == 0 then
    if not settled then set(server, 'cut_at', now) end
    return
  end
  local contents
  if tokens then
    contents = contents_of(server, slot)
    if contents then
      contents.used, contents.tokens = now, tokens
      redis.call('HSET', server.contents, slot, cmsgpack.pack(contents))
    end
  else
    set_contents(server, slot, contents_of(server, slot), nil)
  end
  if settled then
    offer(server, slot, contents)
    if contents then ended[#ended + 1] = {server, slot, lease} end
  else
    doubt(server, slot)
  end
end

-- Ends leases that were not renewed; finds requests of the release before, which counts only.
local function tidy(server)
  if now - server.tidied < TIDY_MS then return end
  set(server, 'tidied', now)
  for _, member in ipairs(
    redis.call('ZRANGEBYSCORE', server.key, '-inf', now, 'LIMIT', 0, 32)) do
    local id = string.match(member, '^[^|]*|([^|]*)|#')
    local packed = id and redis.call('HGET', server.leases, id)
    if packed then
      end_lease(server, id, cmsgpack.unpack(packed), false, nil)
    else
      redis.call('ZREM', server.key, member)
    end
  end
  local leases, running = redis.call('HLEN', server.leases), redis.call('ZCARD', server.key)
  if leases > running then
    local flat = redis.call('HGETALL', server.leases)
    for place = 1, #flat, 2 do
      local lease = cmsgpack.unpack(flat[place + 1])
      if not redis.call('ZSCORE', server.key, lease_member(flat[place], lease)) then
        end_lease(server, flat[place], lease, false, nil)
      end
    end
  elseif leases < running then
    count_only(server)
  end
end

-- Returns the leased slots, their number, and when the last lease without a slot was granted.
local function named_slots(server)
  local slots, count, latest = {}, 0, 0
  for _, packed in ipairs(redis.call('HVALS', server.leases)) do
    local lease = cmsgpack.unpack(packed)
    local slot = lease[4]
    if slot >= 0 then
      slots[slot], count = true, count + 1
    else
      latest = math.max(latest, lease[5])
    end
  end
  return slots, count, latest
end

-- Once a minute: renew expiries; count on if slots went missing, as after an eviction of keys.
local function check(server)
  if now - server.touched < 60000 then return end
  set(server, 'touched', now)
  redis.call('PEXPIRE', STATE .. 'epoch', KEEP_MS)
  for _, part in ipairs(PARTS) do redis.call('PEXPIRE', server[part], KEEP_MS) end
  if server.named == 1 then
    local _, leased = named_slots(server)
    local others = redis.call('ZCARD', server.free) + redis.call('ZCARD', server.kept)
      + redis.call('SCARD', server.unsettled)
    if leased + others ~= server.slots then count_only(server) end
  end
end

-- A kept slot is free only for the conversation that has just ended there, see keeping.lua.
local function is_kept(server, slot)
  return server.kept_until > 0 and redis.call('ZSCORE', server.kept, slot) ~= false
end

local function note_kept(server)
  local first = redis.call('ZRANGE', server.kept, 0, 0, 'WITHSCORES')
  set(server, 'kept_until', tonumber(first[2]) or 0)
end

local function stop_keeping(server)
  for _, slot in ipairs(redis.call('ZRANGEBYSCORE', server.kept, '-inf', now)) do
    redis.call('ZREM', server.kept, slot)
    local contents = contents_of(server, slot)
    if contents then note_return(account_of(contents.class, contents.owner), -1) end
    offer(server, slot, contents)
  end
  note_kept(server)
end

-- The servers that this process sees ready: input.servers = [[name, slots, shows slots]].
local listed = {}
local function list_servers()
  for _, given in ipairs(input.servers) do
    local name, slots, shows_slots = unpack(given)
    local server = server_of(name)
    listed[#listed + 1], server.listed = server, true
    if server.slots ~= slots then
      set(server, 'slots', slots)
      count_only(server)
    elseif not shows_slots and server.counted_until < now + input.ttl / 2 then
      count_only(server)
    end
    server.shows_slots = shows_slots
  end
end

local function is_counted(server) return input.counted or now < server.counted_until end

-- The free slot whose cache is worth least: its number and its score, nil if there is none.
local function look_up_free(server)
  local first = redis.call('ZRANGE', server.free, 0, 0, 'WITHSCORES')
  server.free_slot, server.free_score = tonumber(first[1]), tonumber(first[2])
end

-- Finds out whether a server can take a request now, and how many it runs.
local function open(server)
  tidy(server)
  check(server)
  server.running = redis.call('ZCARD', server.key)
  if is_counted(server) then
    server.places = math.max(server.slots - server.running, 0)
  elseif server.named == 1 then
    if server.kept_until > 0 and now >= server.kept_until then stop_keeping(server) end
    look_up_free(server)
    server.places = server.free_slot and 1 or 0
  elseif server.look_at > 0 and now > server.settle_until then
    count_only(server)
    server.places = math.max(server.slots - server.running, 0)
  else
    server.places = 0
    if server.look_at == 0 then
      set(server, 'look_at', now)
      set(server, 'settle_until', now + math.min(SETTLE_MS, input.ttl))
      set(server, 'pause_ms', FIRST_PAUSE_MS)
    end
  end
end

local function save_servers()
  for _, server in pairs(servers) do
    if server.changed then
      local values = {}
      for place, field in ipairs(FIELDS) do values[place] = server[field] end
      redis.call('SET', server.record, cmsgpack.pack(values), 'PX', KEEP_MS)
    end
  end
end
