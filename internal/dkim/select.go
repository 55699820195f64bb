package dkim

import (
	"strings"

	"gatepost/internal/mail"
)

// Select returns the fields that h= names, in its order: of fields with the same
// name the last one first, and nothing for a name that no field is left for (RFC
// 6376 5.4.2). Its cost is the sum of both lengths, whatever they hold.
func Select(h mail.Header, names []string) []mail.Field {
	at := make(map[string][]int)
	for i, f := range h {
		name := strings.ToLower(f.Name())
		at[name] = append(at[name], i)
	}
	var fields []mail.Field
	for _, name := range names {
		name = strings.ToLower(name)
		if left := at[name]; len(left) > 0 {
			fields = append(fields, h[left[len(left)-1]])
			at[name] = left[:len(left)-1]
		}
	}
	return fields
}
