-- The commonest report: of one member that succeeded and was never lost or tried again, while others are open and
-- whoever waits knows that there is something to read. It writes and answers what complete.lua would, in half of its
-- time; every other report goes on there. Touches: header outcomes order claims deadlines.
if #ARGV == 5 and ARGV[4] == 'SUCCEEDED' and string.byte(ARGV[5], 1) ~= 1 then
  local run, owner, index, attempt, payload = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[5]
  local header, claims = run .. 'header', run .. 'claims'
  local state, n, recorded, succeeded, running, bytes, in_flight, told, enough, version = unpack(redis.call(
    'HMGET', header, 'state', 'n', 'recorded', 'SUCCEEDED', 'running', 'outcome_bytes', 'max_in_flight', 'told', 'enough',
    'version'))
  recorded = (recorded or 0) + 1
  local of_attempt, by = string.match(redis.call('HGET', claims, index) or '', '^(%d+) 0 0 0 %d+ %d+ (.*)$')
  if state == 'RUNNING' and version == VERSION and in_flight == '0' and told == '1' and not enough
      and recorded < tonumber(n) and of_attempt == attempt and by == owner then
    redis.call('HSET', run .. 'outcomes', index,
      'SUCCEEDED ' .. attempt .. ' ' .. now() .. ' 0 ' .. owner .. '\n' .. payload)
    redis.call('RPUSH', run .. 'order', index)
    redis.call('HDEL', claims, index)
    redis.call('ZREM', run .. 'deadlines', index)
    redis.call('HSET', header, 'recorded', recorded, 'SUCCEEDED', (succeeded or 0) + 1, 'running', running - 1,
      'outcome_bytes', (bytes or 0) + #payload)
    return 'RUNNING;' .. index .. ';;;0;0;;;0'
  end
end
