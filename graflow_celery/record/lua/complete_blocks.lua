-- Record whole blocks, all of whose members ran here: the first outcome wins, the last one ends the group.
-- Touches: header blocks pages order deadlines events open; manifest shared children expire at the end. A policy that leaves
-- members out has none of its blocks claimed whole.
-- ARGV: owner, then number, attempt, members that did not succeed ("index state index state", or nothing) and page of each
-- block. Answers a text of the state, recorded blocks, blocks that have to be reported member by member, 1 when all are
-- recorded, 1 when the continuation is claimable.
local owner = ARGV[1]
local header = load('n', 'recorded', 'running', 'SUCCEEDED', 'outcome_bytes', 'told', 'stride')
if not header then return false end
local time = now()
local recorded, split, is_new = {}, {}, false
for i = 2, #ARGV, 4 do
  local b, attempt = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local block = get_block(b)
  local is_mine = block.attempt == attempt and block.owner == owner
  if block.kind == 'c' and is_mine then
    local failures = {}
    for index, state in string.gmatch(ARGV[i + 2], '(%d+) (%S+)') do
      failures[#failures + 1] = {index = index, state = state}
    end
    record_page(header, b, block, time, failures, ARGV[i + 3])
    recorded[#recorded + 1] = b
    is_new = true
  elseif block.kind == 'r' and is_mine then
    recorded[#recorded + 1] = b -- by an earlier call, whose answer got lost
  else
    split[#split + 1] = b
  end
end
if is_new and header.recorded < header.n then tell(header) end
settle(header, time)
save(header)
local is_final = header.state ~= 'RUNNING'
local continues = is_final and header.closed == 0 and is_free(parse_claim(redis.call('HGET', CLAIMS, header.n)))
return as_text(header.state, recorded, split, is_final and 1 or 0, continues and 1 or 0)
