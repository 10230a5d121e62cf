-- Begins to compute a kept value, unless somebody does. Touches: its hash, the index of its name.
-- KEYS: the hash, names, the index, ends. ARGV: digest, name, owner, token, now, since when a value must be made, token
-- and beats of a computation that is over (or ''), milliseconds that one without a value is remembered.
-- Answers 'kept', or owner, token and beats of the computation that goes on.
local digest, name, owner, token, now, since, over, beats, patience = unpack(ARGV)
local made, expires, present, theirs, count = unpack(
  redis.call('HMGET', KEYS[1], 'made', 'expires', 'token', 'owner', 'beats'))
if made and tonumber(made) >= tonumber(since) and (not expires or tonumber(expires) > tonumber(now)) then
  return {'kept'}
end
if present and present ~= token and not (present == over and count == beats) then return {theirs, present, count} end
redis.call('HSET', KEYS[1], 'name', name, 'owner', owner, 'token', token, 'beats', 0)
if not made then
  redis.call('PEXPIRE', KEYS[1], patience)
  redis.call('SADD', KEYS[2], name)
  redis.call('ZADD', KEYS[3], now, digest)
end
return {owner, token, '0'}
