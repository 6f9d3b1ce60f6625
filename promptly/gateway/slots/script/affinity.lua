-- Which slot has a request's prompt cached, and whether to wait for it.
--
-- A request that finds its slot busy waits for that one alone while this is expected to take less
-- time than reading the prompt anew. Requests that match a slot are its wanters, by tokens saved.
local MOST_DEFERRED_MS = 30000
local SERVICE_MS = 5000 -- until measured

local function wanters_of(server, slot)
  return queue .. ':wanters:' .. slot .. ' ' .. server.name
end

local function token_ms(server)
  return (server.token_us > 0 and server.token_us or TOKEN_US) / 1000
end

-- Calls `visit` with (server, slot, tokens) of each slot that has a prefix of the request cached,
-- the longest first, until it returns true.
local function each_match(request, lane, visit)
  local digests = {}
  for place, link in ipairs(request.chain) do digests[place] = link[1] end
  if #digests == 0 or input.counted then return end
  local found = redis.call('HMGET', queue .. ':prefixes', unpack(digests))
  local last
  for place = #digests, 1, -1 do
    if found[place] and found[place] ~= last then
      last = found[place]
      local slot, name = string.match(last, '^(%d+) (.*)$')
      local server = servers[name]
      if server and server.listed and server.named == 1 and not is_counted(server)
        and not (lane.avoided and lane.avoided[name])
        and visit(server, tonumber(slot), request.chain[place][2]) then
        return
      end
    end
  end
end

local function is_free(server, slot)
  return redis.call('ZSCORE', server.free, slot) ~= false or is_kept(server, slot)
end

local function service_of(server) return server.service_ms > 0 and server.service_ms or SERVICE_MS end

-- Returns how long a busy slot will take to serve its request and its wanters, in milliseconds.
local function expected_wait(server, slot)
  local service = service_of(server)
  local contents = contents_of(server, slot)
  local elapsed = contents and now - contents.used or 0
  local ahead = redis.call('ZCARD', wanters_of(server, slot))
  return math.max(service - elapsed, service / 4) + ahead * service
end

-- Returns the slot that saves a request most, and until when to wait for that alone, if worth it:
-- server, slot, tokens, deadline.
local function best_match(request, lane)
  local best, best_slot, best_tokens, deadline
  each_match(request, lane, function(server, slot, tokens)
    best, best_slot, best_tokens = server, slot, tokens
    if waiting < input.limit and not is_free(server, slot) then
      local saved = tokens * token_ms(server)
      if expected_wait(server, slot) < saved then
        deadline = now + math.min(saved, MOST_DEFERRED_MS)
      end
    end
    return true
  end)
  return best, best_slot, best_tokens, deadline
end

local function want(id, request, server, slot, tokens)
  request.wants = wanters_of(server, slot)
  redis.call('ZADD', request.wants, tokens, id)
  redis.call('PEXPIRE', request.wants, KEEP_MS)
  if is_free(server, slot) then offered[#offered + 1] = {server, slot} end
end

-- A slot's contents are replaced: those who waited for them wait for any slot.
local function disappoint(server, slot)
  local key = wanters_of(server, slot)
  for _, id in ipairs(redis.call('ZRANGE', key, 0, 31)) do
    redis.call('ZADD', queue .. ':deferred', 'XX', now, id)
  end
  redis.call('DEL', key)
end
