-- Makes a process the owner if the flow is as it was seen. Touches: all keys of the flow, its states' indices, blobs uses.
-- ARGV: token, owner, seen status, epoch and beats, time, states that may be claimed, retention (ms); then what `write`
-- takes. Answers what came of it ('ok', 'seen', 'state', 'missing'), the epoch or state, and the row.
local token, owner, status, epoch, beats, time, sources, retention =
  take(), take(), take(), take(), take(), take(), take(), take()
local flow = load()
if not flow then return {'missing'} end
if redis.call('HGET', FLOW, 'claim') == token then return {'ok', number(flow.epoch), record()} end
if flow.status ~= status or number(flow.epoch) ~= epoch or number(flow.beats) ~= beats then
  return {'seen', '', record()}
end
if not string.find(sources, ' ' .. flow.status .. ' ', 1, true) then return {'state', flow.status} end
if flow.status ~= 'cancelling' then flow.status = 'running' end
flow.epoch = flow.epoch + 1
flow.version = flow.version + 1
flow.beats = flow.beats + 1
flow.owner = owner
redis.call('HSET', FLOW, 'claim', token)
write(flow, time, flow.epoch)
save(flow, time, retention)
return {'ok', number(flow.epoch), record()}
