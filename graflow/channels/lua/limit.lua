-- KEYS[…]  keys of a channel
-- ARGV[1]  milliseconds that each may live from now; one that has less left keeps it
-- Replies how many were changed.
local limit = tonumber(ARGV[1])
local changed = 0
for _, key in ipairs(KEYS) do
  local left = redis.call('PTTL', key)
  if left == -1 or left > limit then
    changed = changed + redis.call('PEXPIRE', key, ARGV[1])
  end
end
return changed
