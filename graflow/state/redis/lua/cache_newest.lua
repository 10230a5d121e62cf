-- What was kept last for a name, without values. Reads: that index, hashes of kept values; takes what is gone out of
-- the index. KEYS: the index. ARGV: what the keys of hashes begin with, how many at most.
-- Answers parts, source, time and end (or false) of each.
local most, offset, found = tonumber(ARGV[2]), 0, {}
while #found < most do
  local page, gone = redis.call('ZREVRANGE', KEYS[1], offset, offset + most - 1), 0
  for _, digest in ipairs(page) do
    local row = redis.call('HMGET', ARGV[1] .. digest, 'parts', 'source', 'made', 'expires')
    if row[3] and #found < most then
      found[#found + 1] = row
    elseif redis.call('EXISTS', ARGV[1] .. digest) == 0 then
      redis.call('ZREM', KEYS[1], digest)
      gone = gone + 1
    end
  end
  if #page < most then break end
  offset = offset + most - gone
end
return found
