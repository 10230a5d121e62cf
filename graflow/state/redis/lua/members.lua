-- What a page of a group needs to know first. Reads: flow steps. ARGV: step, visit (or '' for the last).
-- Answers false when there is no flow, else visit, number of the row, size, top, where its blocks are, and the strip as
-- names and values.
local step, visit = take(), take()
if redis.call('EXISTS', FLOW) == 0 then return false end
if visit == '' then
  visit = 1
  for _, name in ipairs(redis.call('HKEYS', STEPS)) do
    local which, number_of_visit = string.match(name, '^@(.*)\n(%d+)$')
    if which == step and tonumber(number_of_visit) > visit then visit = tonumber(number_of_visit) end
  end
end
local row = redis.call('HGET', STEPS, '@' .. step .. '\n' .. visit)
if not row then return {} end
local known = redis.call('HMGET', STEPS, row .. ':size', row .. ':top', row .. ':blocks')
local strip = {}
if known[1] then
  local fields = {}
  for bucket = 0, 59 do
    for _, letter in pairs(LETTERS) do fields[#fields + 1] = row .. ':s:' .. bucket .. ':' .. letter end
  end
  local values = redis.call('HMGET', STEPS, unpack(fields))
  for i, value in ipairs(values) do
    if value then
      strip[#strip + 1] = string.sub(fields[i], #row + 4)
      strip[#strip + 1] = value
    end
  end
end
return {tostring(visit), row, known[1] or '0', known[2] or '0', known[3] or '', strip}
