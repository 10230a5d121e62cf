-- Leave out a slice more of what need not run any more. Touches: header outcomes order claims deadlines blocks blocked events
-- open; manifest shared children expire at the end.
-- ARGV: 1 where the caller publishes no continuation. Answers MORE: call again; else the state, 1 when all are recorded, and
-- 1 when the continuation is claimable.
local header = load()
if not header then return {false, 0, 0} end
local time = now()
local _, has_more = leave_out(header, time)
if settle(header, time) and header.closed == 0 and ARGV[1] == '1' then -- the sweeper publishes it at its next look
  redis.call('ZADD', DUE, time, header.n)
  look_by(header, time)
end
save(header)
if has_more then return {'MORE'} end
local is_final = header.state ~= 'RUNNING'
local continues = is_final and header.closed == 0 and is_free(parse_claim(redis.call('HGET', CLAIMS, header.n)))
return {header.state, is_final and 1 or 0, continues and 1 or 0}
