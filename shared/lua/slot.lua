-- A stream's slot, as it stands in its user's hash under its connection (included, never run by itself).
--
-- "<opened ms> <expires ms> <asked ms> <clock> <1 if it wants acks, else 0> <client> <first topic>"
--
-- `opened` rises strictly within a user, `asked` within a process's clock. A slot that cannot be read holds nothing.

local function text_of_slot(slot)
  return string.format('%.0f %.0f %.0f %s %s %s %s',
    slot.opened, slot.expires, slot.asked, slot.clock, slot.acks, slot.client, slot.topic)
end

local function slot_of(connection, text)
  local opened, expires, asked, clock, acks, client, topic =
    string.match(text, '^(%d+) (%d+) (%d+) (%S+) ([01]) (%S+) (%S+)$')
  return opened and {
    connection = connection, opened = tonumber(opened), expires = tonumber(expires), asked = tonumber(asked),
    clock = clock, acks = acks, client = client, topic = topic,
  }
end

-- Returns the slots that hold at a time, the one opened first before the others, and the connections of the rest.
local function slots_in(hash, time_ms)
  local held, gone = {}, {}
  for n = 1, #hash, 2 do
    local slot = slot_of(hash[n], hash[n + 1])
    if slot and slot.expires > time_ms then
      held[#held + 1] = slot
    else
      gone[#gone + 1] = hash[n]
    end
  end
  table.sort(held, function(a, b) return a.opened < b.opened end)
  return held, gone
end
