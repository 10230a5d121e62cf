-- Small changes of an open run. Touches: header events due open; reads claims blocked.
-- ARGV: what, value. `published` notes that every member was sent; `hurry` makes every unclaimed member due;
-- `progress` adds an event.
local header = load()
if not header or header.closed == 1 then return 0 end
local what = ARGV[1]
if what == 'published' then
  header.published = 1
elseif what == 'progress' then
  event('progress', 'index', ARGV[2], 'attempt', ARGV[3], 'data', ARGV[4])
elseif what == 'hurry' then
  local time = now()
  local indices = redis.call('ZRANGEBYSCORE', DUE, '(' .. time, '+inf')
  local scores = {}
  for i, text in ipairs(fetch('HMGET', CLAIMS, indices)) do
    if is_free(parse_claim(text)) and not redis.call('ZSCORE', BLOCKED, indices[i]) then
      scores[#scores + 1] = time
      scores[#scores + 1] = indices[i]
    end
  end
  each('ZADD', DUE, scores)
  if #scores > 0 then look_by(header, time) end
end
save(header)
return 1
