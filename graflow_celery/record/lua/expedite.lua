-- Make every unclaimed member due at once. Touches: header claims due open; reads blocked. Answers 0 for a closed run.
local header = load()
if not header or header.closed == 1 then return 0 end
local time = now()
local indices = redis.call('ZRANGEBYSCORE', DUE, '(' .. time, '+inf')
local scores, written = {}, {}
for i, text in ipairs(fetch('HMGET', CLAIMS, indices)) do
  local claim = parse_claim(text)
  if is_free(claim) and not redis.call('ZSCORE', BLOCKED, indices[i]) then
    if claim.waits > 0 then -- nobody waited that long: what is published now has its first wait again
      claim.waits = 0
      written[#written + 1] = indices[i]
      written[#written + 1] = claim_text(claim)
    end
    scores[#scores + 1] = time
    scores[#scores + 1] = indices[i]
  end
end
each('HSET', CLAIMS, written)
each('ZADD', DUE, scores)
if #scores > 0 then look_by(header, time) end
save(header)
return 1
