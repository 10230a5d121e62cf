-- Looks through one index of flows from its newest on. Reads: that index, and the hashes of the flows in it.
-- KEYS: the index. ARGV: prefix, upper end of created, id behind which to go on (or ''), lower end of created, name (or
-- ''), states (or ''), text to find (or ''), how many to answer, how many to look at; how many columns are wanted, and
-- these; then fields that are JSON, each with its prefix.
-- Answers '1' when the end was reached, the created and id of the last one looked at, and the flows: for each its id,
-- its fields `f:` and its fields `n:` as JSON objects, and its columns.
local prefix, upper, behind, lower, name, states, text = unpack(ARGV, 1, 7)
local limit, most, columns = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local wanted = {unpack(ARGV, 11)}
local labels = {}
for i = columns + 1, #wanted do labels[i] = '"' .. string.sub(wanted[i], 3) .. '":' end

local function shown(id, values)
  local fields, counts = {}, {}
  for i = columns + 1, #wanted do
    if values[i] then
      local into = string.byte(wanted[i]) == 102 and fields or counts
      into[#into + 1] = labels[i] .. values[i]
    end
  end
  local answer = {id, '{' .. table.concat(fields, ',') .. '}', '{' .. table.concat(counts, ',') .. '}'}
  for i = 1, columns do answer[i + 3] = values[i] end
  return answer
end

local found, looked, offset = {}, 0, 0
local last_created, last_id = upper, behind
while true do
  local page = redis.call('ZREVRANGEBYSCORE', KEYS[1], upper, lower, 'WITHSCORES', 'LIMIT', offset, 200)
  for i = 1, #page, 2 do
    local id, created = page[i], page[i + 1]
    local is_before = behind ~= '' and tonumber(created) == tonumber(upper) and id >= behind
    if not is_before then
      local flow = prefix .. ':flow:' .. id
      local known = redis.call('HMGET', flow, 'name', 'status', text ~= '' and 'searched' or 'name', 'created')
      if known[1]
        and (name == '' or known[1] == name)
        and (states == '' or string.find(states, ' ' .. known[2] .. ' ', 1, true))
        and (text == '' or string.find(known[3], text, 1, true))
      then
        found[#found + 1] = shown(id, redis.call('HMGET', flow, unpack(wanted)))
      end
      last_created, last_id = known[4] or created, id
      looked = looked + 1
      if #found >= limit or looked >= most then return {'0', last_created, last_id, found} end
    end
  end
  if #page < 400 then return {'1', last_created, last_id, found} end
  offset = offset + 200
end
