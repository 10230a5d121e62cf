-- Applies one transition, or nothing. Touches: all keys of the flow, its states' indices, ended blobs uses
-- changed changes, and for a moment a copy of the journal.
-- ARGV: token, time, guard, 1 for an owner's, states that it is made from, state afterwards (or ''), 1 when it raises the
-- epoch, 1 when it answers all requests, retention (ms), what a refused owner leaves in the journal; then what `write`
-- takes. Answers what came of it ('ok', 'stale', 'version', 'state', 'missing') with seq, version, epoch and requests, or
-- with what is there instead.
local token, time, guard, by_owner, sources, target, raises, answers, retention, refused =
  take(), take(), take(), take(), take(), take(), take(), take(), take(), take()
local flow = load()
if not flow then return {'missing'} end
local seq, version, epoch = answered(flow, token)
if seq then return {'ok', seq, version, epoch, flow.requests} end
if by_owner == '1' then
  if number(flow.epoch) ~= guard then
    note(flow, time, flow.epoch, 'refused', '', '', '', '', refused)
    redis.call('HSET', FLOW, 'seq', number(flow.seq))
    count_change()
    return {'stale', number(flow.epoch)}
  end
  flow.beats = flow.beats + 1
elseif number(flow.version) ~= guard then
  return {'version', number(flow.version)}
end
if not string.find(sources, ' ' .. flow.status .. ' ', 1, true) then return {'state', flow.status} end
if target ~= '' then flow.status = target end
if raises == '1' then flow.epoch = flow.epoch + 1 end
flow.version = flow.version + 1
if flow.status ~= 'running' and flow.status ~= 'cancelling' then flow.owner = '' end
if answers == '1' then flow.requests = '[]' end
write(flow, time, by_owner == '1' and tonumber(guard) or flow.epoch)
remember(flow, token)
save(flow, time, retention)
if flow.status == 'queued' and by_owner == '1' then redis.call('HDEL', FLOW, 'claim') end -- its owner had the answer
if flow.status == 'queued' and flow.seq <= 64 then
  -- A stream reserves 4 kB for its first lines; a copy of it takes what they need, as long as the flow waits.
  local copy = JOURNAL .. ':copy'
  if redis.call('COPY', JOURNAL, copy, 'REPLACE') == 1 then redis.call('RENAME', copy, JOURNAL) end
end
return {'ok', number(flow.seq), number(flow.version), number(flow.epoch), flow.requests}
