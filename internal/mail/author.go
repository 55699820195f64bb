package mail

import (
	"net/mail"
	"strings"
)

// Author is who a header says wrote a message: the address of its From field and
// the name in front of it. ok is false where there is no one clear author.
func (h Header) Author() (a Address, name string, ok bool) {
	if h.Count("From") != 1 {
		return Address{}, "", false
	}
	value := h.Get("From")
	if len(value) > maxAuthor {
		return Address{}, "", false
	}
	list, err := mail.ParseAddressList(value)
	if err != nil { // an odd name: the address may be fine
		begin, end := strings.LastIndexByte(value, '<'), strings.LastIndexByte(value, '>')
		if begin < 0 || end < begin || strings.Count(value, "<") != 1 {
			return Address{}, "", false
		}
		a, err = ParseAddress(value[begin+1:end], true)
		return a, DecodeWords(strings.Trim(value[:begin], ` "`)), err == nil
	}
	if len(list) != 1 {
		return Address{}, "", false
	}
	a, err = ParseAddress(list[0].Address, true)
	return a, DecodeWords(list[0].Name), err == nil
}

// maxAuthor is the length of a From field that anybody reads.
const maxAuthor = 2000
