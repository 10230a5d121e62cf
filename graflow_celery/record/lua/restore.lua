-- Record outcomes that are known from elsewhere, of members that have none; no execution is counted. What attempts of earlier
-- rounds came to is left out.
-- Touches: header outcomes order claims deadlines blocks blocked events open; manifest shared children expire at the end.
-- ARGV: index, attempt, state, owner, payload of each. Answers the indices that were recorded, and 1 when leave_out.lua
-- is to be called.
local header = load()
if not header or header.state ~= 'RUNNING' then return {{}, 0} end
local time = now()
local indices = {}
for i = 1, #ARGV, 5 do indices[#indices + 1] = ARGV[i] end
thaw_for(header, indices)
local scores = fetch('ZMSCORE', DUE, indices)
local claims = fetch('HMGET', CLAIMS, indices)
local floors = fetch('HMGET', FLOORS, indices)
local rows, recorded, seen = {}, {}, {}
for i, index in ipairs(indices) do
  local is_over = floors[i] and tonumber(ARGV[5 * i - 3]) <= tonumber(floors[i])
  if scores[i] and not seen[index] and not is_over and are_there(blobs_in(ARGV[5 * i])) then
    rows[#rows + 1] = {
      index = tonumber(index), state = ARGV[5 * i - 2], claim = parse_claim(claims[i]), attempt = tonumber(ARGV[5 * i - 3]),
      owner = ARGV[5 * i - 1], late = false, payload = ARGV[5 * i],
    }
    recorded[#recorded + 1] = index
    seen[index] = true
  end
end
record(header, rows, time)
local _, has_more = leave_out(header, time)
if #rows > 0 and header.recorded < header.n then tell(header) end
settle(header, time)
save(header)
return {recorded, has_more and 1 or 0}
