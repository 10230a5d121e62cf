-- Have a member that failed run again after a delay. Touches: header claims deadlines blocks blocked events open.
-- ARGV: owner, index, attempt, delay, retries that this execution made itself, 1 when it made none and did not begin: the
-- worker cannot run it, and others may.
local owner, index, attempt, delay = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local made, is_unrun = tonumber(ARGV[5]), ARGV[6] == '1'
local header = load()
if not header then return {{}, {}} end
thaw_for(header, {index})
local claim = parse_claim(redis.call('HGET', CLAIMS, index))
if claim.owner == '@' and is_unrun and claim.attempt == attempt - 1 then return {{index}, {}} end
if claim.attempt ~= attempt then return {{}, {}} end
if claim.owner == '@' then return {{index}, {}} end
if claim.owner ~= owner then return {{}, {}} end
local time = now()
local due = time + delay
if is_unrun then
  claim.attempt = claim.attempt - 1
  header.executions = header.executions - 1
else
  claim.retries = claim.retries + 1 + made
  header.retries = header.retries + 1 + made
end
claim.waits = 0
queue_again(claim, '@', time)
redis.call('HSET', CLAIMS, index, claim_text(claim))
redis.call('ZADD', DUE, due, index)
look_by(header, due)
if tonumber(index) < header.n then
  header.running = header.running - 1
  header.retrying = header.retrying + 1
end
event('retry', 'index', index)
save(header)
return {{index}, ready(header)}
