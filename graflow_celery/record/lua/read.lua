-- Outcomes in the order of recording, from a position; those of a block are `b<number>`, and what page_text answers.
-- Touches header; reads order outcomes blocks pages floors events.
-- ARGV: position, count, bytes after which an answer ends.
local COUNTS = {
  'n', 'running', 'SUCCEEDED', 'FAILED', 'TIMED_OUT', 'CANCELLED', 'LOST', 'executions', 'losses', 'retries', 'late',
  'refused', 'retrying', 'stride',
}
local position, count, budget = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local header = load('closed', 'epoch', 'told', 'round', 'recorded', 'in_blocks', 'damaged', 'overdue', unpack(COUNTS))
if not header then return {false} end
if header.damaged ~= '' then return {'DAMAGED', header.damaged} end
-- A server that evicts keys takes whole ones.
local length = redis.call('LLEN', ORDER)
if length < header.recorded - header.in_blocks or lacks_outcomes(header) then return {'PARTIAL'} end
-- What is recorded from here on wakes this reader. A replica may refuse it.
if header.told == 1 then redis.pcall('HDEL', HEADER, 'told') end
local counts = {}
for i, name in ipairs(COUNTS) do counts[i] = header[name] end
local outcomes, bytes = {}, 0
for _, index in ipairs(redis.call('LRANGE', ORDER, position, position + count - 1)) do
  local b = header.stride > 0 and block_named(index)
  local outcome = b and page_text(header, b) or redis.call('HGET', OUTCOMES, index)
  outcomes[#outcomes + 1] = index
  outcomes[#outcomes + 1] = outcome
  bytes = bytes + (#blobs_of_outcome(outcome) > 0 and budget or #outcome)
  if bytes >= budget then break end
end
local last = redis.call('XREVRANGE', EVENTS, '+', '-', 'COUNT', 1)
return {
  header.state, header.closed, header.epoch, counts, last[1] and last[1][1] or '0-0', outcomes,
  length, header.round, header.overdue,
}
