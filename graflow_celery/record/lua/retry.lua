-- Have a member that failed run again after a delay. Touches: header claims deadlines blocks blocked events open.
-- ARGV: owner, index, attempt, delay, retries that this execution made itself.
local owner, index, attempt, delay = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local made = tonumber(ARGV[5])
local header = load()
if not header then return {{}, {}} end
thaw_for(header, {index})
local claim = parse_claim(redis.call('HGET', CLAIMS, index))
if claim.attempt ~= attempt then return {{}, {}} end
if claim.owner == '@' then return {{index}, {}} end
if claim.owner ~= owner then return {{}, {}} end
local time = now()
local due = time + delay
claim.retries, claim.waits = claim.retries + 1 + made, 0
queue_again(claim, '@', time)
redis.call('HSET', CLAIMS, index, claim_text(claim))
redis.call('ZADD', DUE, due, index)
look_by(header, due)
header.retries = header.retries + 1 + made
if tonumber(index) < header.n then
  header.running = header.running - 1
  header.retrying = header.retrying + 1
end
event('retry', 'index', index)
save(header)
return {{index}, ready(header)}
