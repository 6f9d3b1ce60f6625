-- One exchange of a process: it reports, asks, and learns what became of its requests.
local function end_request(ended)
  local id, name, charged, settled, tokens, read_tokens, read_us, service_ms = unpack(ended)
  local server = server_of(name)
  local packed = redis.call('HGET', server.leases, id)
  if not packed then return end
  local lease = cmsgpack.unpack(packed)
  if charged >= 0 then charge(account_of(lease[2], lease[3]), charged - lease[6]) end
  -- Moving averages over about eight requests.
  if charged > 0 then
    local cost = number('cost')
    set_number('cost', cost == 0 and charged or math.floor((cost * 7 + charged) / 8))
  end
  if read_tokens >= 64 then
    local token_us = math.max(math.floor(read_us / read_tokens), 1)
    set(server, 'token_us', server.token_us == 0 and token_us
      or math.floor((server.token_us * 7 + token_us) / 8))
  end
  if service_ms >= 0 then
    set(server, 'service_ms', server.service_ms == 0 and service_ms
      or math.floor((server.service_ms * 7 + service_ms) / 8))
  end
  end_lease(server, id, lease, settled, tokens >= 0 and tokens or nil)
end

local function renew(held)
  local id, name, slot, class, account, charged = unpack(held)
  local server = server_of(name)
  local packed = redis.call('HGET', server.leases, id)
  local lease = packed and cmsgpack.unpack(packed)
  if not lease then
    lease = {input.process, class, account, slot, now, math.max(charged, 0), false, false}
    if slot < 0 then
      locate(server)
    elseif server.named == 1 and redis.call('ZREM', server.free, slot) == 0
      and redis.call('ZREM', server.kept, slot) == 0
      and redis.call('SREM', server.unsettled, slot) == 0 then
      -- It was given on while its process was away.
      lease[4] = -1
      locate(server)
    end
  elseif charged >= 0 then
    charge(account_of(lease[2], lease[3]), charged - lease[6])
    lease[6] = charged
  end
  start_lease(server, id, lease)
end

local function enqueue(given)
  local id, number_of, class, waited_us, tokens, lane, chain = unpack(given)
  if waiting > 0 and redis.call('HEXISTS', queue .. ':requests', id) == 1 then return end
  if input.resync then
    for _, server in ipairs(listed) do
      local packed = redis.call('HGET', server.leases, id)
      if packed then
        local lease = cmsgpack.unpack(packed)
        tell(input.process, 'granted', {id, server.name, lease[4], lease[7], lease[8]})
        return
      end
    end
  end
  local account = account_of(class, number_of)
  if waiting == 0 or not redis.call('ZSCORE', totals_of(class), account.id) then
    if waiting == 0 or redis.call('EXISTS', totals_of(class)) == 0 then
      lift_class(class)
      if class == 'batch' then set_number('batch_at', now) end
    end
    lift(account)
  end
  local request = {process = input.process, class = class, account = account.id, lane = lane,
    tokens = tokens, arrival_us = now_us - waited_us, chain = chain}
  local server, slot, tokens, deadline = best_match(request, lane_named(lane))
  if waiting == 0 and not deadline and is_open(lanes[lane]) then
    set_number('level:' .. class, math.max(number('level:' .. class), account.served))
    grant(id, request, account, find_slot(request, lanes[lane]))
  else
    if server then want(id, request, server, slot, tokens) end
    add(id, request, account, deadline)
  end
end

list_servers()
for _, ended in ipairs(input.release) do end_request(ended) end
for _, held in ipairs(input.renew) do renew(held) end
for _, look in ipairs(input.looks) do take_look(unpack(look)) end
for _, id in ipairs(input.quit) do
  remove(id)
  quitters[id] = true
end
-- There are none of requests that Redis hears of only now.
if #input.quit > 0 or input.resync or input.waiting > #input.enqueue then read_news() end
if input.resync then
  local mine = {}
  for _, given in ipairs(input.enqueue) do mine[given[1]] = true end
  for _, id in ipairs(redis.call('SMEMBERS', queue .. ':of:' .. input.process)) do
    if not mine[id] then remove(id) end
  end
end
if #input.enqueue > 0 or waiting > 0 then
  for _, server in ipairs(listed) do open(server) end
  if waiting > 0 then forget_silent() end
  for _, given in ipairs(input.enqueue) do enqueue(given) end
  if waiting > 0 then
    stop_deferring()
    grant_wanted()
    if waiting > 0 then keep_slots() end
    grant_turns()
  end
  for _ = 1, 256 do
    if waiting <= input.limit or not displace() then break end
  end
end
if input.waiting > 0 then
  local known = waiting > 0 and redis.call('SCARD', queue .. ':of:' .. input.process) or 0
  for _, granted in ipairs(answer.granted) do
    if not quitters[granted[1]] then known = known + 1 end
  end
  for _, id in ipairs(answer.full) do
    if not quitters[id] then known = known + 1 end
  end
  -- Whatever was lost on either side: the process names all its requests again.
  if known ~= input.waiting then answer.resync = true end
end
if input.waiting > #answer.granted then
  redis.call('ZADD', queue .. ':processes', now, input.process)
  redis.call('PEXPIRE', queue .. ':processes', KEEP_MS)
end
if waiting > 0 then answer.crowded = true end
if #answer.granted == 0 then answer.granted = nil end
if #answer.full == 0 then answer.full = nil end
local looks, look_ms = looks_due()
if #looks > 0 then answer.look = looks end
answer.look_ms = look_ms
save_numbers()
save_servers()
-- Hardly ever is there a refused body: this is half the cost of asking which.
if #input.enqueue + input.waiting > 0 and redis.call('EXISTS', KEYS[2]) == 1 then
  answer.fatal = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. clock[1], '+inf')
end
return cjson.encode(answer)
