-- The commonest claim: of one member that nobody has claimed, in a group without limits. It writes and answers what
-- claim.lua would, in half of its time; every other claim goes on there. Touches: header claims deadlines; reads manifest.
if #ARGV == 5 then
  local run, owner, known, index = KEYS[1], ARGV[1], ARGV[4], ARGV[5]
  local header, due, claims, manifest = run .. 'header', run .. 'deadlines', run .. 'claims', run .. 'manifest'
  local state, opener, lease, look, running, executions, in_flight, deadline, version, is_cut, is_leaving = unpack(redis.call(
    'HMGET', header, 'state', 'opener', 'lease', 'look', 'running', 'executions', 'max_in_flight', 'deadline', 'version', 'cut',
    'leaving'))
  if state == 'RUNNING' and version == VERSION and in_flight == '0' and not deadline and is_cut ~= '1' and is_cut ~= '2'
      and is_leaving ~= '1' then
    local time = now()
    local ends = time + lease
    if tonumber(look) <= ends and redis.call('ZSCORE', due, index) and not redis.call('HGET', claims, index) then
      redis.call('HSET', claims, index, '1 0 0 0 0 ' .. time .. ' ' .. owner)
      redis.call('ZADD', due, ends, index)
      redis.call('HSET', header, 'running', (running or 0) + 1, 'executions', (executions or 0) + 1)
      local envelopes = {}
      if ARGV[3] == '1' then
        envelopes[1] = redis.call('HGET', manifest, index)
          or redis.call('HGET', manifest, 'b' .. math.floor(index / redis.call('HGET', header, 'stride')))
      end
      local spec = opener == known and '' or redis.call('HGET', header, 'spec')
      return {'RUNNING;-1;' .. index .. ' 1 0 0;;;;' .. opener, spec, envelopes}
    end
  end
end
