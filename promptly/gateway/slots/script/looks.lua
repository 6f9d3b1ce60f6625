-- Looks at /slots. `idle` and `busy` are the ids of slots.
local function take_look(name, idle, busy)
  local server = server_of(name)
  if is_counted(server) or server.look_at == 0 then return end
  if server.named == 1 then
    for _, slot in ipairs(idle) do
      if redis.call('SREM', server.unsettled, slot) == 1 then
        offer(server, slot, contents_of(server, slot))
      end
    end
  elseif #idle + #busy == server.slots then
    local leased, count, latest = named_slots(server)
    local unknown = {}
    for _, slot in ipairs(busy) do
      if not leased[slot] then unknown[#unknown + 1] = slot end
    end
    -- Each request that runs in an unknown slot has to be in one of the busy ones. Those that are
    -- in none have ended, as when their process died, unless they are yet to come, or wait at the
    -- server because all of its slots are busy.
    local arrived = #idle > 0 and now - latest > math.min(ARRIVAL_MS, input.ttl / 5)
    if arrived or #unknown >= redis.call('ZCARD', server.key) - count then
      redis.call('DEL', server.free, server.unsettled, server.contents)
      set(server, 'named', 1)
      for _, slot in ipairs(idle) do
        if not leased[slot] then offer(server, slot, nil) end
      end
      for _, slot in ipairs(unknown) do doubt(server, slot) end
    end
  end
  if server.named == 1 and redis.call('SCARD', server.unsettled) == 0 then
    set(server, 'look_at', 0)
  else
    set(server, 'look_at', now + server.pause_ms)
    set(server, 'pause_ms', math.min(math.max(server.pause_ms, 25) * 2, LAST_PAUSE_MS))
  end
end

-- Returns the servers whose /slots this process is to look at, and when the next look is due.
local function looks_due()
  local names, wait_ms = {}, nil
  if input.counted then return names, nil end
  for _, server in ipairs(listed) do
    if server.look_at > 0 and server.shows_slots and now >= server.counted_until then
      if server.look_at <= now then
        names[#names + 1] = server.name
        -- If it does not answer, it is dead, or the server is.
        set(server, 'look_at', now + input.ttl * 0.35)
      elseif not wait_ms or server.look_at - now < wait_ms then
        wait_ms = server.look_at - now
      end
    end
  end
  return names, wait_ms
end
