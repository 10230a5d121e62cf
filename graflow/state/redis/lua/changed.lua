-- Flows that changed behind a number, in the order of their changes. Reads: changed changes, and the hashes of the flows.
-- KEYS: changed, changes. ARGV: prefix, the number (or ''), how many at most.
-- Answers the last number, and for each flow its number, id, name, status, version and seq.
local last = redis.call('GET', KEYS[2]) or '0'
local found = {}
if ARGV[2] ~= '' then
  local page = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
  for i = 1, #page, 2 do
    local values = redis.call('HMGET', ARGV[1] .. ':flow:' .. page[i], 'name', 'status', 'version', 'seq')
    if values[1] then found[#found + 1] = {page[i + 1], page[i], unpack(values)} end
  end
end
return {last, found}
