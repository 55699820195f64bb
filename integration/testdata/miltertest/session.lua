-- Several messages over one connection: a refused recipient, an abort, a virus,
-- and nothing of any of them in the next.
local function want(what, ok) if not ok then mt.echo("not as wanted: " .. what) error(what) end end
local c = mt.connect(socket)
want("connect", c ~= nil)
want("conninfo", mt.conninfo(c, "client.example", "192.0.2.25") == nil)
want("helo", mt.helo(c, "client.example") == nil)

local function envelope(from, ...)
	want("mail", mt.mailfrom(c, from) == nil and mt.getreply(c) == SMFIR_CONTINUE)
	for _, to in ipairs({ ... }) do
		want("rcpt " .. to, mt.rcptto(c, to) == nil)
	end
end
local function content(subject, text)
	want("header", mt.header(c, "From", "s@sender.test") == nil and mt.header(c, "Subject", subject) == nil)
	want("eoh", mt.eoh(c) == nil)
	want("body", mt.bodystring(c, text .. "\r\n") == nil)
	want("eom", mt.eom(c) == nil)
end

envelope("<s@sender.test>", "<u@example.com>")
want("closed mailbox", mt.rcptto(c, "<closed@example.com>") == nil and mt.getreply(c) == SMFIR_REPLYCODE)
want("the next recipient", mt.rcptto(c, "<v@example.com>") == nil and mt.getreply(c) == SMFIR_CONTINUE)
content("one", "text")
want("first message", mt.getreply(c) == SMFIR_CONTINUE)
local first = mt.getheader(c, "X-Gatepost-ID", 0)
want("its ID", first ~= nil)

envelope("<gone@sender.test>", "<u@example.com>")
want("header", mt.header(c, "X-Spam-Flag", "forged") == nil)
want("abort", mt.abort(c) == nil)

envelope("<s@sender.test>", "<u@example.com>")
content("virus", eicar)
want("virus", mt.getreply(c) == SMFIR_REPLYCODE)

want("refused sender", mt.mailfrom(c, "<x@bad.test>") == nil and mt.getreply(c) == SMFIR_REPLYCODE)

envelope("<s@sender.test>", "<u@example.com>")
content("two", "text")
want("last message", mt.getreply(c) == SMFIR_CONTINUE)
want("no deletion of the aborted one's field", not mt.eom_check(c, MT_HDRDELETE))
want("an ID of its own", mt.getheader(c, "X-Gatepost-ID", 0) ~= first)
mt.disconnect(c)
