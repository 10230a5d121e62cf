-- Forgets kept values with their computations. Touches: their hashes, the indices of kept values.
-- KEYS: names, ends. ARGV: what the keys of hashes begin with, what those of the indices of names begin with; then
-- digest and name of each, the name '' where it is not known. Answers how many values there were.
local count = 0
for i = 3, #ARGV, 2 do
  local digest, name = ARGV[i], ARGV[i + 1]
  local hash = ARGV[1] .. digest
  local present, made = unpack(redis.call('HMGET', hash, 'name', 'made'))
  if name == '' then name = present or '' end
  if made then count = count + 1 end
  redis.call('DEL', hash)
  redis.call('ZREM', KEYS[2], digest)
  if name ~= '' then
    redis.call('ZREM', ARGV[2] .. name, digest)
    if redis.call('EXISTS', ARGV[2] .. name) == 0 then redis.call('SREM', KEYS[1], name) end
  end
end
return count
