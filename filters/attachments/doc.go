// Package attachments holds what is in a message against the operator's lists:
// deny lists as amavis has them (names, extensions, types, content), and allow
// lists as Protector had them (everything is refused but what is listed). It
// looks at what internal/mime found and reads nothing itself; what becomes of a
// finding is for the rules.
package attachments
