package policy

// Example is a rule file that shows something.
type Example struct{ Title, Text string }

// Examples are those of the page, each with its test cases.
func Examples() []Example {
	return append(contentExamples(), siteExamples()...)
}

func contentExamples() []Example {
	return []Example{
		{"Programs, by their names and by what they are", `[[rule]]
name   = "no-programs"
when   = 'any(parts, .program or .ext in ["exe", "scr", "com", "js", "vbs"])'
action = "reject"
reply  = "550 5.7.1 We take no programs by mail"

[[rule.test]]
parts = [{ name = "Invoice.EXE" }]

[[rule.test]]
parts = [{ name = "invoice.pdf", type = "application/pdf" }]
match = false
`},
		{"The same in the short form: from, to, client, time, what", `[[rule]]
name   = "no-programs-for-sales"
from   = "!example.com"
to     = ["sales@example.com", "@shop.example.com"]
time   = "mon-fri 08:00-18:00"
what   = ["*.exe", "program", "application/x-msdownload"]
action = "quarantine"

[[rule.test]]
from  = "a@example.org"
to    = "sales@example.com"
time  = "2026-06-01 12:00"
parts = [{ name = "a.exe" }]

[[rule.test]]
from  = "a@example.com"
to    = "sales@example.com"
time  = "2026-06-01 12:00"
parts = [{ name = "a.exe" }]
match = false
`},
		{"A friend, whatever the score", `[list.partners]
type    = "domain"
entries = ["example.org", ".example.org until=2099-12-31 ticket=SEC-12"]

[[rule]]
name   = "partners"
when   = 'sender.domain in list("partners") and (spf == "pass" or dkim == "pass")'
action = "accept"
final  = true

[[rule.test]]
from     = "a@mail.example.org"
findings = [{ name = "spf", value = "pass" }]

[[rule.test]]
from     = "a@mail.example.org"
findings = [{ name = "spf", value = "fail" }]
match    = false
`},
		{"A name that pretends to be one of ours", `[[rule]]
name = "forged-boss"
when = '''
from.name matches "(?i)\\bJane Doe\\b"
and none(from.domains, under(#, "example.com"))
and not client.ours
'''
score = 8
tag   = "[EXTERNAL] "

[[rule.test]]
header = { From = "Jane Doe <jane.doe.ceo@mail.example>" }

[[rule.test]]
header = { From = "Jane Doe <jane@example.com>" }
match  = false
`},
		{"Links on a list of hosts", `[list.phishing]
type    = "host"
entries = ["evil.example"]

[[rule]]
name   = "phishing-links"
when   = 'any(urls, .host in list("phishing"))'
action = "reject"
notify = "security@example.com"

[[rule.test]]
urls = ["https://login.evil.example/reset"]
`},
	}
}

func siteExamples() []Example {
	return []Example{
		{"A rule that only watches, for some time", `[[rule]]
name   = "newsletters"
when   = 'header("List-Unsubscribe") != "" and not (dkim == "pass")'
score  = 2.5
mode   = "observe"
until  = 2099-12-31
ticket = "SEC-31"
note   = "look at the hits in a week"

[[rule.test]]
header = { List-Unsubscribe = "<mailto:u@example.org>" }
`},
		{"Clients that send viruses are put off for a day", `[list.partners]
type    = "domain"
entries = ["example.org"]

[list.infected]
type    = "cidr"
dynamic = true
max     = 5000
never   = ["partners"]

[[rule]]
name     = "remember-infected"
when     = 'virus != ""'
list_add = { list = "infected", key = "client", for = "24h" }

[[rule]]
name   = "infected"
stage  = "connect"
client = "list:infected"
action = "tempfail"

[[test]]
client = "192.0.2.1"
virus  = "Eicar"
rules  = ["remember-infected"]
`},
		{"Recipients that want something else", `[[rule]]
name     = "orders"
to       = "orders@example.com"
when     = 'count(parts, .ext == "pdf") > 0 and size < 20_000_000'
redirect = "erp@example.com"

[[rule]]
name   = "no-archives-we-cannot-open"
when   = 'any(parts, .archive != "" and .encrypted) and rcpt.domain != "lab.example.com"'
action = "hold"

[[test]]
to     = "orders@example.com"
parts  = [{ name = "order.pdf" }]
rules  = ["orders"]
action = "none"

[[test]]
to     = "a@example.com"
parts  = [{ name = "a.zip", archive = "zip", encrypted = true }]
action = "hold"
`},
		{"Macros are taken out", `[[rule]]
name  = "no-macros"
what  = "macros"
strip = { parts = ".macros", why = "We take no documents with macros. Please ask the sender for a PDF file." }

[[rule.test]]
parts = [{ name = "a.docm", macros = true }]
`},
	}
}
