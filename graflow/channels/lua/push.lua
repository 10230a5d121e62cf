-- KEYS[1]  a key of a channel: a list of JSON texts, made when it is absent
-- KEYS[2]  remembers this operation for a while, so that it changes nothing when it comes again after a lost reply
-- ARGV[1]  RPUSH or LPUSH
-- ARGV[2]  the element, JSON text
-- ARGV[3]  milliseconds to live from now, or '' to keep what the list has
-- ARGV[4]  milliseconds to remember the operation
-- Replies the length; or, with nothing changed, the text when the key holds one, or 0 for another kind of data.
local done = redis.call('GET', KEYS[2])
if done then
  return tonumber(done)
end
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'string' then
  return redis.call('GET', KEYS[1])
elseif kind ~= 'list' and kind ~= 'none' then
  return 0
end
local length = redis.call(ARGV[1], KEYS[1], ARGV[2])
if ARGV[3] ~= '' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
redis.call('SET', KEYS[2], length, 'PX', ARGV[4])
return length
