-- Asks the owner for something, unless that is asked already. Touches: flow journal, its states' indices.
-- ARGV: kind, request as JSON, time, states in which it may be asked for, data of the line.
-- Answers 'ok' and the row, 'state' and the state, or 'missing'.
local kind, asked, time, sources, data = take(), take(), take(), take(), take()
local flow = load()
if not flow then return {'missing'} end
if not string.find(sources, ' ' .. flow.status .. ' ', 1, true) then return {'state', flow.status} end
if not string.find(flow.requests, '["' .. kind .. '",', 1, true) then
  local present = string.sub(flow.requests, 2, -2)
  flow.requests = '[' .. present .. (present == '' and '' or ',') .. asked .. ']'
  note(flow, time, flow.epoch, 'request.' .. kind, '', '', '', '', data)
  if kind == 'cancel' and flow.status == 'running' then
    flow.status = 'cancelling'
    flow.version = flow.version + 1
  end
  save(flow, time, 0)
end
return {'ok', record()}
