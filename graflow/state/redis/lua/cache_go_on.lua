-- Gives a sign of life of a computation, or ends one that gave nothing. Touches: its hash. KEYS: the hash.
-- ARGV: token, 'beat' or 'end', milliseconds that one without a value is remembered.
-- Answers 1, or 0 when the computation does not count any more.
local token, what, patience = unpack(ARGV)
local present, made = unpack(redis.call('HMGET', KEYS[1], 'token', 'made'))
if present ~= token then return 0 end
if what == 'beat' then
  redis.call('HINCRBY', KEYS[1], 'beats', 1)
  if not made then redis.call('PEXPIRE', KEYS[1], patience) end
elseif made then
  redis.call('HDEL', KEYS[1], 'owner', 'token', 'beats')
else
  redis.call('DEL', KEYS[1])
end
return 1
