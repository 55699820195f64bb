package attachments

import (
	"maps"
	"slices"
	"strings"
)

// kind is a media type of content with what may be said of it elsewhere.
type kind struct {
	group      string
	extensions []string
	declared   []string // besides the type itself and what is generic
}

// known are the types that allow lists can name. The declared types are what
// mail programs write for these files.
func known() map[string]kind {
	k := func(group, extensions string, declared ...string) kind {
		return kind{group, strings.Fields(extensions), declared}
	}
	const ooxml = "application/vnd.openxmlformats-officedocument."
	const odf = "application/vnd.oasis.opendocument."
	return map[string]kind{
		"text/plain":                k("text", "txt text asc log md csv tsv conf ini diff patch eml ics vcf srt tex", "text/*", "application/csv", "application/ics", "application/vnd.ms-excel"),
		"text/csv":                  k("text", "csv txt", "text/*", "application/csv", "application/vnd.ms-excel"),
		"text/tab-separated-values": k("text", "tsv tab txt csv", "text/*"),
		"text/html":                 k("html", "html htm", "application/xhtml+xml"),
		"text/xml":                  k("text", "xml xsd xsl", "application/xml"),
		"application/json":          k("text", "json", "text/*"),
		"text/rtf":                  k("office", "rtf doc", "application/rtf", "application/msword"),
		"text/vcard":                k("calendar", "vcf", "text/x-vcard", "text/directory"),
		"text/calendar":             k("calendar", "ics ical", "application/ics"),
		"message/rfc822":            k("messages", "eml", "text/plain"),

		"image/png":       k("images", "png", "image/x-png"),
		"image/jpeg":      k("images", "jpg jpeg jpe jfif", "image/jpg", "image/pjpeg"),
		"image/gif":       k("images", "gif"),
		"image/webp":      k("images", "webp"),
		"image/bmp":       k("images", "bmp dib", "image/x-ms-bmp", "image/x-bmp"),
		"image/tiff":      k("images", "tif tiff"),
		"image/heic":      k("images", "heic heif", "image/heif"),
		"image/x-icon":    k("images", "ico", "image/vnd.microsoft.icon"),
		"image/avif":      k("images", "avif"),
		"audio/mpeg":      k("audio", "mp3 mpga", "audio/mp3"),
		"audio/wav":       k("audio", "wav", "audio/x-wav", "audio/wave"),
		"audio/ogg":       k("audio", "ogg oga", "application/ogg"),
		"audio/flac":      k("audio", "flac", "audio/x-flac"),
		"audio/x-m4a":     k("audio", "m4a", "audio/mp4", "audio/m4a"),
		"audio/amr":       k("audio", "amr"),
		"video/mp4":       k("video", "mp4 m4v"),
		"video/quicktime": k("video", "mov qt"),
		"video/webm":      k("video", "webm"),
		"video/x-msvideo": k("video", "avi", "video/avi"),
		"video/mpeg":      k("video", "mpg mpeg"),

		"application/pdf": k("pdf", "pdf", "application/x-pdf"),

		"application/msword":                                         k("office", "doc dot", "application/x-msword", "application/vnd.ms-word"),
		"application/vnd.ms-excel":                                   k("office", "xls xlt", "application/x-msexcel", "application/msexcel"),
		"application/vnd.ms-powerpoint":                              k("office", "ppt pps pot", "application/mspowerpoint"),
		"application/x-ole-storage":                                  k("office", "doc xls ppt", "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"),
		ooxml + "wordprocessingml.document":                          k("office", "docx", "application/msword"),
		ooxml + "spreadsheetml.sheet":                                k("office", "xlsx", "application/vnd.ms-excel"),
		ooxml + "presentationml.presentation":                        k("office", "pptx", "application/vnd.ms-powerpoint"),
		"application/vnd.ms-word.document.macroenabled.12":           k("office", "docm", ooxml+"wordprocessingml.document"),
		"application/vnd.ms-excel.sheet.macroenabled.12":             k("office", "xlsm", ooxml+"spreadsheetml.sheet"),
		"application/vnd.ms-powerpoint.presentation.macroenabled.12": k("office", "pptm", ooxml+"presentationml.presentation"),
		odf + "text":         k("office", "odt"),
		odf + "spreadsheet":  k("office", "ods"),
		odf + "presentation": k("office", "odp"),

		"application/zip":              k("archives", "zip", "application/x-zip", "application/x-zip-compressed"),
		"application/gzip":             k("archives", "gz tgz", "application/x-gzip", "application/x-compressed-tar", "application/x-tgz", "application/x-gtar"),
		"application/x-bzip2":          k("archives", "bz2 tbz tbz2", "application/bzip2", "application/x-bzip"),
		"application/x-xz":             k("archives", "xz txz"),
		"application/zstd":             k("archives", "zst tzst", "application/x-zstd"),
		"application/x-tar":            k("archives", "tar", "application/tar"),
		"application/x-7z-compressed":  k("archives", "7z"),
		"application/x-rar-compressed": k("archives", "rar", "application/vnd.rar", "application/x-rar"),
		"application/vnd.rar":          k("archives", "rar", "application/x-rar-compressed", "application/x-rar"),
		"application/x-lzip":           k("archives", "lz"),
		"application/vnd.ms-tnef":      k("archives", "dat tnef", "application/ms-tnef"),
	}
}

// with adds the operator's types.
func with(types map[string]kind, more map[string]Names) map[string]kind {
	types = maps.Clone(types)
	for name, n := range more {
		k := types[strings.ToLower(name)]
		for _, e := range n.Extensions {
			k.extensions = append(k.extensions, strings.ToLower(strings.TrimPrefix(e, ".")))
		}
		for _, d := range n.Declared {
			k.declared = append(k.declared, strings.ToLower(d))
		}
		types[strings.ToLower(name)] = k
	}
	return types
}

// groups are the names for several types at once.
func groups(types map[string]kind) []string {
	var names []string
	for _, k := range types {
		if k.group != "" && !slices.Contains(names, k.group) {
			names = append(names, k.group)
		}
	}
	slices.Sort(names)
	return names
}

// generic are declared types that say nothing.
func isGeneric(declared string) bool {
	switch declared {
	case "", "application/octet-stream", "application/unknown", "application/force-download", "application/download", "binary/octet-stream":
		return true
	}
	return false
}

// fitsType compares a media type with a pattern: "image/png" or "image/*".
func fitsType(pattern, mediaType string) bool {
	if family, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(mediaType, family)
	}
	return pattern == mediaType
}

// bare is a media type without its parameters, in lower case.
func bare(mediaType string) string {
	t, _, _ := strings.Cut(mediaType, ";")
	return strings.ToLower(strings.TrimSpace(t))
}
