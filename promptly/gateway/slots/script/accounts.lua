-- The message, the time, and what each account and each class of accounts was served.
--
-- KEYS[1] prefix of the queue's keys
-- KEYS[2] fatal: digest of a refused body -> end of the refusal (seconds)
-- ARGV[1] JSON: see messages.py. Times are milliseconds unless they end in _us.
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)
local input = cjson.decode(ARGV[1])
local queue = KEYS[1]

local KEEP_MS = 24 * 3600 * 1000 -- state of servers and queues that nobody uses
local ACCOUNT_MS = 600 * 1000    -- what an idle account was served
local LONG_AGO_US = 3600e6       -- newcomers were "served" an hour before they came
local CLASSES = {'paying', 'trial', 'batch'}
local WEIGHTS = {paying = 1, trial = input.trial_weight, batch = 1}

-- Numbers of the queue, as integers: served:<class>, level:<class>, level, largest,
-- batch_at, cost (weighted tokens of a request), lanes (the number of other ones), born. In one
-- value: a hash costs several times as much.
local numbers, numbers_changed = {}, false
do
  local packed = redis.call('GET', queue .. ':numbers')
  if packed then numbers = cmsgpack.unpack(packed) end
end
local function number(name) return numbers[name] or 0 end
local function set_number(name, value)
  if numbers[name] ~= value then numbers[name], numbers_changed = value, true end
end
if not numbers.born then set_number('born', now_us) end

-- A lane holds the accounts of one class that wait for the same servers. Nearly all requests take
-- any server; the name of another lane has the servers that its requests avoid.
local lanes = {}
local function add_lane(name, class, avoided)
  local lane = {name = name, class = class, key = queue .. ':lane:' .. name, avoided = avoided}
  lanes[#lanes + 1], lanes[name] = lane, lane
  return lane
end
for _, class in ipairs(CLASSES) do add_lane(class, class) end
local function lane_named(name)
  if lanes[name] then return lanes[name] end
  local class, rest = string.match(name, '^(%a+)!(.*)$')
  local avoided = {}
  for server in string.gmatch(rest, '%S+') do avoided[server] = true end
  return add_lane(name, class, avoided)
end
if number('lanes') > 0 then
  for _, name in ipairs(redis.call('SMEMBERS', queue .. ':lanes')) do lane_named(name) end
end
-- How many requests wait; with none, much need not be asked.
local waiting = redis.call('HLEN', queue .. ':requests')

-- Accounts by class and number: the tokens served, weighted, when they were last given a slot, and
-- how often they came back at once (keeping.lua).
local WELL, BEST = 2, 4
local MOST_KEPT_MS = 1000
local accounts = {}
local function account_of(class, id)
  local name = class .. ':' .. id
  local account = accounts[name]
  if account then return account end
  account = {id = id, class = class, key = queue .. ':account:' .. name, served = 0, turn_us = 0,
    returns = WELL}
  local packed = redis.call('GET', account.key)
  if packed then
    local served, turn_us, born, returns = unpack(cmsgpack.unpack(packed))
    account.returns = returns or WELL
    -- Numbers that the queue has lost since do not compare with its present ones.
    if born == number('born') then
      account.served, account.turn_us, account.known = served, turn_us, true
    end
  end
  accounts[name] = account
  return account
end

-- Ties go to the account that was served longest ago: members are sorted by that time.
local function member_of(account) return string.format('%016.0f|%s', account.turn_us, account.id) end

local function charge(account, tokens)
  if tokens == 0 then return end
  account.served, account.changed = account.served + tokens, true
  local class = account.class
  set_number('served:' .. class, number('served:' .. class) + tokens * WEIGHTS[class])
  if waiting == 0 then return end
  for _, lane in ipairs(lanes) do
    if lane.class == class then
      redis.call('ZADD', lane.key, 'XX', account.served, member_of(account))
    end
  end
end

local function note_return(account, change)
  account.returns = math.max(math.min(account.returns + change, BEST), 0)
  account.changed = true
end

-- Idleness saves nothing up: whoever starts to wait starts at the level of those who are served.
local function lift(account)
  local level = number('level:' .. account.class)
  if not account.known or account.served < level then
    account.served = math.max(account.served, level)
    account.turn_us = now_us - LONG_AGO_US
    account.known, account.changed = true, true
  end
end

local function lift_class(class)
  set_number('served:' .. class, math.max(number('served:' .. class), number('level')))
end

local function save_numbers()
  for _, account in pairs(accounts) do
    if account.changed then
      local packed = cmsgpack.pack(
        {account.served, account.turn_us, number('born'), account.returns})
      redis.call('SET', account.key, packed, 'PX', ACCOUNT_MS)
    end
  end
  if numbers_changed then
    redis.call('SET', queue .. ':numbers', cmsgpack.pack(numbers), 'PX', KEEP_MS)
  end
end
