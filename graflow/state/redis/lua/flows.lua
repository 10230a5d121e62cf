-- Looks through one index of flows from its newest on. Reads: that index, and the hashes of the flows in it.
-- KEYS: the index. ARGV: prefix, upper end of created, id behind which to go on (or ''), lower end of created, name (or
-- ''), states (or ''), text to find (or ''), how many to answer, how many to look at; then the fields of the hash that
-- are wanted, of which the first are name, status and created.
-- Answers '1' when the end was reached, the created and id of the last one looked at, and for each flow id and fields.
local prefix, upper, behind, lower, name, states, text = unpack(ARGV, 1, 7)
local limit, most = tonumber(ARGV[8]), tonumber(ARGV[9])
local wanted = {unpack(ARGV, 10)}
local found, looked, offset = {}, 0, 0

-- What a search looks into: id, name, and what is kept behind these, which is `{}` for no inputs.
local function searched(flow, id, name)
  return string.lower(id .. '\n' .. name) .. '\n' .. (redis.call('HGET', flow, 'searched') or '{}')
end

local last_created, last_id = upper, behind
while true do
  local page = redis.call('ZREVRANGEBYSCORE', KEYS[1], upper, lower, 'WITHSCORES', 'LIMIT', offset, 200)
  for i = 1, #page, 2 do
    local id, created = page[i], page[i + 1]
    local is_before = behind ~= '' and tonumber(created) == tonumber(upper) and id >= behind
    if not is_before then
      local flow = prefix .. ':flow:' .. id
      local values = redis.call('HMGET', flow, unpack(wanted))
      if values[1]
        and (name == '' or values[1] == name)
        and (states == '' or string.find(states, ' ' .. values[2] .. ' ', 1, true))
        and (text == '' or string.find(searched(flow, id, values[1]), text, 1, true))
      then
        found[#found + 1] = id
        found[#found + 1] = values
      end
      last_created, last_id = values[3] or created, id
      looked = looked + 1
      if #found >= 2 * limit or looked >= most then return {'0', last_created, last_id, found} end
    end
  end
  if #page < 400 then return {'1', last_created, last_id, found} end
  offset = offset + 200
end
