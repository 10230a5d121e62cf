-- KEYS[1]  a key of a channel: JSON text; keeps its time to live
-- KEYS[2]  remembers this operation for a while, so that it changes nothing when it comes again after a lost reply
-- ARGV[1]  the text that it will hold
-- ARGV[2]  milliseconds to remember the operation
-- ARGV[3]  the text that the caller has read; left out when the key was absent
-- Replies 1, or 0 when it holds something else by now; nothing is changed then.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 1
end
local kind = redis.call('TYPE', KEYS[1]).ok
if ARGV[3] then
  if kind ~= 'string' or redis.call('GET', KEYS[1]) ~= ARGV[3] then
    return 0
  end
  redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL')
else
  if kind ~= 'none' then
    return 0
  end
  redis.call('SET', KEYS[1], ARGV[1])
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
