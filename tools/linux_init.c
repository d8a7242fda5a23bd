/*
 * The only process of the tests' Linux guest: tells the kernel of QEMU's
 * vmcoreinfo device, begins to count, says where, and goes on.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    char mark[16];
    volatile uint64_t count;
} kept = { "vmstream-counts", 0 };

int main(void)
{
    int module = open("/qemu_fw_cfg.ko", O_RDONLY | O_CLOEXEC);

    if (module < 0 || syscall(SYS_finit_module, module, "", 0)) {
        perror("qemu_fw_cfg.ko");
    }
    prctl(PR_SET_NAME, "vmstream-init");
    kept.count++;
    printf("counting at %p\n", (void *)&kept);
    fflush(stdout);
    for (;;) {
        kept.count++;
        usleep(1000);
    }
}
