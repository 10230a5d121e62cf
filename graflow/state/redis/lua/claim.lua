-- Makes a process the owner if the flow is as it was seen. Touches: all keys of the flow, its states' indices, blobs uses.
-- ARGV: token, owner, seen status, epoch and beats, time, states that may be claimed, how many flows of this name may
-- have an owner (-1: any number), retention (ms); then what `write` takes. Answers what came of it ('ok', 'seen', 'full',
-- 'state', 'missing'), the epoch or state, and the row.
local token, owner, status, epoch, beats, time, sources, limit, retention =
  take(), take(), take(), take(), take(), take(), take(), tonumber(take()), take()

-- Whether so many flows of a name have an owner.
local function is_full(name)
  local owned = 0
  for _, state in ipairs({'running', 'cancelling'}) do
    for _, id in ipairs(redis.call('ZRANGE', PREFIX .. ':status:' .. state, 0, -1)) do
      if redis.call('ZSCORE', PREFIX .. ':name:' .. name, id) then owned = owned + 1 end
      if owned >= limit then return true end
    end
  end
  return false
end

local flow = load()
if not flow then return {'missing'} end
if redis.call('HGET', FLOW, 'claim') == token then return {'ok', number(flow.epoch), record()} end
if flow.status ~= status or number(flow.epoch) ~= epoch or number(flow.beats) ~= beats then
  return {'seen', '', record()}
end
if not string.find(sources, ' ' .. flow.status .. ' ', 1, true) then return {'state', flow.status} end
if limit >= 0 and flow.status ~= 'running' and flow.status ~= 'cancelling' and is_full(redis.call('HGET', FLOW, 'name')) then
  return {'full', '', record()}
end
if flow.status ~= 'cancelling' then flow.status = 'running' end
flow.epoch = flow.epoch + 1
flow.version = flow.version + 1
flow.beats = flow.beats + 1
flow.owner = owner
redis.call('HSET', FLOW, 'claim', token)
write(flow, time, flow.epoch)
save(flow, time, retention)
return {'ok', number(flow.epoch), record()}
