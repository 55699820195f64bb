// Package alter makes edits of what a policy wants changed in a message: parts
// taken out or renamed, a tag in the subject, text at the top or the end. It is
// a filters.Finisher.
//
// It never guesses. The message is read here by the letter of MIME (structure.go),
// and what is to be taken out must stand where internal/mime saw it, too; a
// message that can be read in more than one way, a signed or an encrypted part,
// is not taken apart but held. What was made is inspected again before it goes
// out. Bytes of other parts stay as they are: the new body is the old one with
// pieces replaced (splice.go), however large it is.
package alter
