-- The fields of a server's record, in the order in which they are packed.
local FIELDS = {'epoch', 'slots', 'named', 'counted_until', 'settle_until', 'look_at', 'pause_ms',
  'token_us', 'service_ms', 'touched', 'tidied', 'cut_at', 'kept_until'}
local FIELD = {} -- by name, its place in the record
for place, name in ipairs(FIELDS) do FIELD[name] = place end
