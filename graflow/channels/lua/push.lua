-- KEYS[1]  a key of a channel: a list of JSON texts, made when it is absent
-- ARGV[1]  RPUSH or LPUSH
-- ARGV[2]  the element, JSON text
-- ARGV[3]  milliseconds to live from now, or '' to keep what the list has
-- Replies the length; or, with nothing changed, the text when the key holds one, or 0 for another kind of data.
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
return length
