-- KEYS[1]  a key of a channel: the JSON text of a whole list, replaced by a list of JSON texts
-- ARGV[1]  the text that the caller has read
-- ARGV[2]  milliseconds to live from now, or '' to keep what the text has
-- ARGV[3…] the JSON texts of all elements, in order
-- Replies 1, or 0 when the key holds something else by now; nothing is changed then.
if redis.call('TYPE', KEYS[1]).ok ~= 'string' or redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local left = redis.call('PTTL', KEYS[1])
redis.call('DEL', KEYS[1])
for index = 3, #ARGV do
  redis.call('RPUSH', KEYS[1], ARGV[index])
end
if ARGV[2] ~= '' then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
elseif left >= 0 then
  redis.call('PEXPIRE', KEYS[1], math.max(left, 1))
end
return 1
