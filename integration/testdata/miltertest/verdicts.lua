-- What only the end of a message can say: forged fields deleted, a recipient
-- taken out, a quarantine, a discard.
local function want(what, ok) if not ok then mt.echo("not as wanted: " .. what) error(what) end end
local function message(from, to, fields, text)
	local c = mt.connect(socket)
	want("connect", c ~= nil and mt.conninfo(c, "client.example", "192.0.2.25") == nil)
	want("mail", mt.mailfrom(c, from) == nil)
	for _, r in ipairs(to) do
		want("rcpt " .. r, mt.rcptto(c, r) == nil and mt.getreply(c) == SMFIR_CONTINUE)
	end
	for _, f in ipairs(fields) do
		want("header", mt.header(c, f[1], f[2]) == nil)
	end
	want("content", mt.eoh(c) == nil and mt.bodystring(c, text .. "\r\n") == nil and mt.eom(c) == nil)
	return c
end
local from = { "From", "s@sender.test" }

local c = message("<s@sender.test>", { "<u@example.com>" }, { { "X-Spam-Status", "No forged" }, from, { "x-virus-scanned", "forged" } }, "text")
want("accepted", mt.getreply(c) == SMFIR_CONTINUE)
want("forged fields", mt.eom_check(c, MT_HDRDELETE, "X-Spam-Status") and mt.eom_check(c, MT_HDRDELETE, "x-virus-scanned"))
want("no other field", not mt.eom_check(c, MT_HDRDELETE, "From"))
mt.disconnect(c)

c = message("<s@sender.test>", { "<drop@example.com>", "<u@example.com>" }, { from }, "text")
want("accepted for one", mt.getreply(c) == SMFIR_CONTINUE and mt.eom_check(c, MT_RCPTDELETE, "<drop@example.com>"))
want("not for the other", not mt.eom_check(c, MT_RCPTDELETE, "<u@example.com>"))
mt.disconnect(c)

c = message("<s@sender.test>", { "<hold@example.com>" }, { from }, eicar)
want("quarantine", mt.getreply(c) == SMFIR_CONTINUE and mt.eom_check(c, MT_QUARANTINE))
mt.disconnect(c)

c = message("<s@sender.test>", { "<drop@example.com>" }, { from }, "text")
want("discard", mt.getreply(c) == SMFIR_DISCARD)
mt.disconnect(c)
