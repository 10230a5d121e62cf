-- A flow with the rows of its steps. Reads: flow values steps. ARGV: names of large fields that are not wanted.
-- Answers false, or the three as lists of names and values.
if redis.call('EXISTS', FLOW) == 0 then return false end
local hidden = {}
for i = 3, #ARGV do hidden[ARGV[i]] = true end
local values = {}
for _, name in ipairs(redis.call('HKEYS', VALUES)) do
  if not hidden[name] then
    values[#values + 1] = name
    values[#values + 1] = redis.call('HGET', VALUES, name)
  end
end
return {redis.call('HGETALL', FLOW), values, redis.call('HGETALL', STEPS)}
