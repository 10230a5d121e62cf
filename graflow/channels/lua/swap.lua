-- KEYS[1]  a key of a channel: JSON text; keeps its time to live
-- ARGV[1]  the text that it will hold
-- ARGV[2]  the text that the caller has read; left out when the key was absent
-- Replies 1, or 0 when it holds something else by now; nothing is changed then.
local kind = redis.call('TYPE', KEYS[1]).ok
if ARGV[2] then
  if kind ~= 'string' or redis.call('GET', KEYS[1]) ~= ARGV[2] then
    return 0
  end
  redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL')
else
  if kind ~= 'none' then
    return 0
  end
  redis.call('SET', KEYS[1], ARGV[1])
end
return 1
