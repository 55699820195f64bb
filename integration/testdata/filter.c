/* A filter on libmilter that makes one change of each kind that this test
   compares byte for byte: PROGRAM SOCKET */
#include <stdio.h>
#include <string.h>
#include <libmilter/mfapi.h>

static sfsistat eom(SMFICTX *ctx)
{
	if (smfi_chgheader(ctx, "Subject", 1, "changed by a child") != MI_SUCCESS ||
	    smfi_insheader(ctx, 1, "X-Child-Top", "one\n\ttwo") != MI_SUCCESS ||
	    smfi_addheader(ctx, "X-Child-End", "end") != MI_SUCCESS ||
	    smfi_chgheader(ctx, "X-Remove", 2, NULL) != MI_SUCCESS ||
	    smfi_addrcpt(ctx, "<added@example.com>") != MI_SUCCESS ||
	    smfi_delrcpt(ctx, "<gone@example.com>") != MI_SUCCESS)
		return SMFIS_TEMPFAIL;
	return SMFIS_CONTINUE;
}

static sfsistat rcpt(SMFICTX *ctx, char **args)
{
	if (strcmp(args[0], "<childno@example.com>") == 0) {
		smfi_setreply(ctx, "550", "5.7.1", "the child says no");
		return SMFIS_REJECT;
	}
	return SMFIS_CONTINUE;
}

static struct smfiDesc filter = {
	.xxfi_name = "child", .xxfi_version = SMFI_VERSION,
	.xxfi_flags = SMFIF_ADDHDRS | SMFIF_CHGHDRS | SMFIF_ADDRCPT | SMFIF_DELRCPT,
	.xxfi_envrcpt = rcpt, .xxfi_eom = eom,
};

int main(int argc, char **argv)
{
	if (argc != 2 || smfi_setconn(argv[1]) != MI_SUCCESS || smfi_register(filter) != MI_SUCCESS) {
		fprintf(stderr, "usage: %s SOCKET\n", argv[0]);
		return 64;
	}
	return smfi_main() == MI_SUCCESS ? 0 : 70;
}
